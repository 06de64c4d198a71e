"""The settings that the eight character language models share.

A variant names a data set, a budget and a depth: `configs/charlm_lru.py:ptb,10m,l2`. For a part
that is left out, the default in parentheses is used.

data         (ptb) Penn Treebank, warpeace, enwik8, text8; or file, your own text in UTF-8:
             --config=configs/charlm_lru.py:file,quick --config.data.path=my.txt
budget       (10m) the paper's: ten million parameters in all, which determine the width
  24m        the paper's other budget
  talk       that of the first author's talk of May 2017: 0.90 million parameters per layer
  quick      0.3 million parameters, a tenth of the training text (but your own text in full), 3
             epochs: minutes on two CPU cores
  converge   as quick, but on 2 % of the training text (but your own text in full), until the
             authors' stopping rule ends the run, or for 60 epochs; --config.data.percent=5 sets
             another share
  smoke      a few synthetic words and a tiny model, for tests: seconds
depth        (l2) l1 ... l8: layers; the paper does not give its depth; the talk has l2, l4, l6, l8

Unless the budget is talk or smoke, the width follows from the number of parameters, including those
of the embedding and of the dense layer that computes the logits. "The paper" is Ahuja & Morency
(2018), and "the authors' code" is the code that they published.
"""

from pkgutil import resolve_name

from ml_collections import ConfigDict

from lru.training.recipes.variants import choose

STACKS = {
    "gru": "lru.baselines:GRU",
    "ps_lru": "lru.lattice:PSLRU",
    "rg_lru": "lru.lattice:RGLRU",
    "lru": "lru.lattice:Lattice",
    "lstm": "lru.baselines:LSTM",
    "rhn": "lru.baselines:RHN",
    "grid_lstm": "lru.baselines:GridLSTM",
    "linear_lru": "lru:LRU",
}
# Each data set and its number of tokens: the different characters of the training text, and
# "unknown".
DATA = {
    "ptb": ("lru.data.ptb:PTB.create", 51),
    "warpeace": ("lru.data.warpeace:WarAndPeace.create", 85),
    "enwik8": ("lru.data.enwik8:Enwik8.create", 206),
    "text8": ("lru.data.text8:Text8.create", 28),
    "file": ("lru.data.text_file:TextFile.create", 100),  # a guess, which affects only the width
}
PARAMETERS = {"10m": 10_000_000, "24m": 24_000_000, "quick": 300_000, "converge": 300_000}
TALK = {"gru": 387, "lstm": 335, "grid_lstm": 237, "rg_lru": 300}  # widths, from the talk's table
PERCENT = {"quick": 10, "converge": 2}
BUDGETS = (*PARAMETERS, "talk", "smoke")
DEPTHS = {f"l{depth}": depth for depth in range(1, 9)}


def build(model: str, variant: str) -> ConfigDict:
    """Returns the config of a variant for one of the models in `STACKS`.

    Raises:
      UserError: if a name in the variant does not exist, if the variant names two data sets, two
        budgets or two depths, or if no width fits the budget.
    """
    data, budget, depth = choose(variant, DATA, BUDGETS, DEPTHS)
    data, budget, depth = data or "ptb", budget or "10m", depth or "l2"
    config = ConfigDict()
    config.seed = 0
    config.data = _data(data, budget)
    config.model = _model(model, _width(model, data, budget, DEPTHS[depth]), DEPTHS[depth])

    config.optimizer = ConfigDict()
    config.optimizer.learning_rate = 1e-3  # the authors' code
    config.optimizer.b1 = 0.9  # the authors' code: PyTorch's defaults, like the next two
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.groups = ((r".*", 1.0, 0.0),)  # no weight decay: Adam
    config.optimizer.warmup_fraction = 0.0  # the rate is constant, as in the authors' code
    config.optimizer.end_learning_rate = config.optimizer.get_oneway_ref("learning_rate")

    config.train = ConfigDict()
    config.train.steps = 0
    config.train.epochs = 100  # a guess: the paper's curves end by then
    config.train.batch_size = 100  # the authors' code: parallel streams
    config.train.unroll = 50  # the authors' code, and the talk
    config.train.patience = 3  # the authors' code, like the next two
    config.train.least_improvement = 1e-4
    config.train.improvement_over = "previous"  # or "best"
    config.train.select = "loss"
    config.train.test_curve = True  # the paper's curves are of the test split
    config.train.eval_batch_size = 0  # as in training
    config.train.log_every = 100
    config.train.checkpoint_every = 250
    config.train.tensorboard = False
    config.train.steps_per_call = 10  # changes no result
    config.train.matmul_precision = "auto"  # "tensorfloat32" on a GPU, "float32" elsewhere
    if budget == "quick":
        quick(config)
    if budget == "converge":
        converge(config)
    if budget == "smoke":
        smoke(config)
    return config


def quick(config: ConfigDict) -> None:
    config.train.update(epochs=3, batch_size=20, checkpoint_every=500)


def converge(config: ConfigDict) -> None:
    config.train.update(epochs=60, batch_size=20, checkpoint_every=500)
    config.train.eval_batch_size = 100  # evaluations with 20 streams would take longer than epochs


def smoke(config: ConfigDict) -> None:
    config.data.update(source="made_up", made_up_length=2_000)
    config.train.update(epochs=3, batch_size=4, unroll=10, log_every=20, checkpoint_every=30)


def _data(name: str, budget: str) -> ConfigDict:
    data = ConfigDict()
    data.type = DATA[name][0]
    data.source = "released"
    if name == "file":
        data.path = ""  # required: --config.data.path=my.txt
    if name == "ptb":
        data.split = "mikolov"  # or "fraction": 90, 5 and 5 %, as in the authors' code
    # The percentage of the training text; the paper: 20, 40, 60, 80, 100. Your own text: all of it.
    data.percent = 100 if name == "file" else PERCENT.get(budget, 100)
    data.fraction_test = "fixed"  # or "moving": the authors' code
    return data


def _model(name: str, width: int, depth: int) -> ConfigDict:
    model, mixer = ConfigDict(), ConfigDict()
    model.type = "lru.models:LanguageModel"
    model.d_model = width
    model.dtype = "float32"  # or "bfloat16": for activations and products
    mixer.type = STACKS[name]
    if name == "linear_lru":  # in residual blocks, as on the Long Range Arena
        model.num_layers = depth
        model.norm = "layer"
        model.glu = "full"
        model.dropout = 0.0  # as in the other models
        model.remat = False  # short sequences need little memory
        mixer.update(d_state=width, r_min=0.0, r_max=0.99)
    else:
        mixer.update(features=width, num_layers=depth)
    mixer.dtype = model.get_oneway_ref("dtype")
    model.mixer = mixer
    return model


def _width(name: str, data: str, budget: str, depth: int) -> int:
    # Imported only here, because `lru.train --help` reads the configs and should not wait for JAX.
    from lru.models.budget import count_layer, hidden_size, nearest

    stack = resolve_name(STACKS[name])
    if budget == "smoke":
        return 8
    if budget == "talk" and name in TALK:
        return TALK[name]
    if budget == "talk":
        gru = count_layer(resolve_name(STACKS["gru"]), TALK["gru"])
        return nearest(lambda width: count_layer(stack, width), gru)
    # Small budgets have few widths to choose from. A difference of more than 1 % is logged.
    return hidden_size(stack, PARAMETERS[budget], DATA[data][1], depth, within=0.05)
