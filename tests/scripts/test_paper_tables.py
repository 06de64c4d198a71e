"""The papers' results equal a second, independent transcription with one line for each task."""

import pytest
from paper import charlm, lra

# Of Orvieto et al. (2023): Table 3; 1 and 6; 2, 7 and 8; 4.
TABLES = {
    "MAIN": """
task        lru         s4d         s5
cifar       89.0 (0.1)  91.5 (0.2)  88.8 (0.1)
listops     60.2 (0.8)  60.2 (0.3)  58.5 (0.3)
text        89.4 (0.1)  86.4 (0.0)  86.2 (0.1)
retrieval   89.9 (0.1)  89.5 (0.0)  88.9 (0.0)
pathfinder  95.1 (0.1)  94.2 (0.3)  95.7 (0.1)
pathx       94.2 (0.4)  97.5 (0.0)  96.0 (0.1)
""",
    "NONLINEARITY": """
task        relu        tanh        linear
cifar       69.7 (0.2)  69.9 (0.3)  72.2 (0.2)
listops     37.6 (8.0)  43.9 (0.1)  50.4 (0.2)
text        88.0 (0.1)  87.2 (0.1)  89.1 (0.1)
retrieval   88.5 (0.1)  88.9 (0.2)  89.1 (0.1)
pathfinder  x           x           x
pathx       x           x           x
""",
    "PARAMETERIZATION": """
task        linear      real_imag   exp         stable_exp  ring        lru
cifar       72.2 (0.2)  86.5 (0.1)  85.4 (0.7)  87.2 (0.4)  88.1 (0.0)  89.0 (0.1)
listops     50.4 (0.2)  58.8 (0.3)  60.5 (0.3)  59.4 (0.3)  59.4 (0.3)  60.2 (0.8)
text        89.1 (0.1)  87.4 (0.3)  86.5 (0.4)  87.6 (0.3)  89.4 (0.1)  89.4 (0.1)
retrieval   89.1 (0.1)  87.8 (0.5)  89.4 (0.1)  89.1 (0.2)  90.1 (0.1)  89.9 (0.1)
pathfinder  x           x           65.4 (9.0)  93.5 (0.5)  94.4 (0.3)  95.1 (0.1)
pathx       x           x           x           x           x           94.2 (0.4)
""",
    "SPEED": """
task        tanh        lru         s4d         s5
cifar       2.0         15.9        13.5        15.9
listops     1.1         2.1         2.2         2.2
text        0.5         14.7        10.6        14.4
retrieval   0.5         5.7         3.0         5.7
pathfinder  2.1         15.5        24.5        15.6
pathx       0.14        2.4         2.6         2.3
""",
}
# Of Ahuja & Morency (2018): the best test losses, a line for each text and size.
MAIN = """
text      size  gru        ps_lru     rg_lru     lru        lstm       rhn        grid_lstm
ptb       10m   0.9726     0.971      0.9718     0.9649     0.973      0.986      0.9696
ptb       24m   0.980      0.9691     0.9691     0.9666     0.967      0.979      0.971
warpeace  10m   1.1635     1.1483     1.1431     1.1410     1.159      1.225      1.149
warpeace  24m   1.164      1.1518     1.1557     1.1501     1.160      1.201      1.172
enwik8    10m   1.1015     1.0904     1.0737     1.0570     1.0755     1.206      1.077
enwik8    24m   1.0862     1.0707     1.0652     1.0412     1.035      1.093      1.035
text8     10m   1.0278     1.0192     1.0149     1.0101     1.013      1.099      1.0091
text8     24m   1.0399     1.0177     1.0085     0.9971     0.995      1.065      0.987
"""
# Test losses of models trained on a share of the text, in per cent.
PERCENT = """
text   share  gru        ps_lru     rg_lru     lru        lstm       rhn        grid_lstm
ptb    20     1.1207     1.117      1.1194     1.1111     1.183      1.155      1.163
ptb    40     1.0025     1.0048     1.0058     0.9926     1.035      1.019      1.015
ptb    60     0.9965     1.0089     1.0025     0.9908     1.011      1.013      1.001
ptb    80     0.9807     0.9836     0.9799     0.9703     0.995      0.991      0.985
ptb    100    0.9727     0.971      0.9718     0.9650     0.973      0.986      0.970
text8  20     1.1587     1.163      1.1630     1.1571     1.156      1.182      1.159
text8  40     1.0949     1.0987     1.0971     1.0932     1.096      1.113      1.099
text8  60     1.0671     1.0693     1.0627     1.0617     1.069      1.094      1.065
text8  80     1.0023     1.0006     0.9965     0.9912     0.995      1.030      0.995
text8  100    1.0280     1.0191     1.0149     1.0102     1.013      1.098      1.009
"""


def by_column(text, names):
    """Parses `{(name, ..., column): number}` from a table whose first columns are names."""
    lines = (line.split("  ") for line in text.strip().splitlines())
    head, *lines = ([cell.strip() for cell in line if cell.strip()] for line in lines)
    return {
        (*line[:names], column): number
        for line in lines
        for column, number in zip(head[names:], line[names:], strict=True)
    }


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_the_long_range_arena_equal_the_papers(name):
    assert getattr(lra, name) == by_column(TABLES[name], 1)


def test_losses_of_language_models_equal_the_papers():
    assert by_column(MAIN, 2) == charlm.MAIN
    shares = {
        (text, int(share), *rest): n for (text, share, *rest), n in by_column(PERCENT, 2).items()
    }
    assert shares == charlm.PERCENT


def test_rings_of_table_5_equal_the_papers():
    """Lines: r_max; columns: r_min = 0, 0.5 and 0.9."""
    tables = {
        "exp": ("87.6 87.8 87.9", "83.8 85.8 81.9", "83.9 84.8 84.8"),
        "stable_exp": ("86.2 86.6 87.3", "87.8 87.7 88.1", "87.4 87.4 87.5"),
        "lru": ("86.4 86.5 88.3", "88.1 88.4 89.0", "88.1 88.6 89.0"),
    }
    want = {
        (ablation, r_min, r_max): number
        for ablation, lines in tables.items()
        for r_max, line in zip((0.9, 0.99, 0.999), lines)
        for r_min, number in zip((0.0, 0.5, 0.9), line.split())
    }
    assert {key: number.split()[0] for key, number in lra.RINGS.items()} == want
