"""The results of Orvieto et al. (2023), for comparison with ours.

Accuracies are means (standard errors) of three runs; "x" marks a model that stayed at chance. The
keys of `NAMES` are "lru" and the ablations of `lru.training.recipes.lra`.
"""

from __future__ import annotations

TASKS = {
    "cifar": "sCIFAR",
    "listops": "ListOps",
    "text": "Text",
    "retrieval": "Retrieval",
    "pathfinder": "PathFinder",
    "pathx": "Path-X",
}
NAMES = {  # from dense recurrences to the LRU, then S4D and S5
    "relu": "dense, ReLU",
    "tanh": "dense, tanh",
    "linear": "dense, linear",
    "real_imag": "diagonal, real + imaginary",
    "exp": "diagonal, exponential",
    "stable_exp": "diagonal, stable exponential",
    "ring": "+ ring",
    "lru": "LRU",
    "s4d": "S4D",
    "s5": "S5",
}


def _table(text: str) -> dict[tuple[str, str], str]:
    """Parses lines of columns, two or more spaces apart: an ablation, and a number for each task.

    Returns:
      The numbers, as text, by task and ablation.
    """
    rows = [[cell for cell in line.split("  ") if cell] for line in text.strip().splitlines()]
    return {
        (task, ablation.strip()): number.strip()
        for ablation, *numbers in rows
        for task, number in zip(TASKS, numbers, strict=True)
    }


# Table 3: accuracy in percent.
MAIN = _table("""
lru         89.0 (0.1)  60.2 (0.8)  89.4 (0.1)  89.9 (0.1)  95.1 (0.1)  94.2 (0.4)
s4d         91.5 (0.2)  60.2 (0.3)  86.4 (0.0)  89.5 (0.0)  94.2 (0.3)  97.5 (0.0)
s5          88.8 (0.1)  58.5 (0.3)  86.2 (0.1)  88.9 (0.0)  95.7 (0.1)  96.0 (0.1)
""")

# Tables 1 and 6.
NONLINEARITY = _table("""
relu        69.7 (0.2)  37.6 (8.0)  88.0 (0.1)  88.5 (0.1)  x  x
tanh        69.9 (0.3)  43.9 (0.1)  87.2 (0.1)  88.9 (0.2)  x  x
linear      72.2 (0.2)  50.4 (0.2)  89.1 (0.1)  89.1 (0.1)  x  x
""")

# Tables 2, 7 and 8.
PARAMETERIZATION = _table("""
linear      72.2 (0.2)  50.4 (0.2)  89.1 (0.1)  89.1 (0.1)  x           x
real_imag   86.5 (0.1)  58.8 (0.3)  87.4 (0.3)  87.8 (0.5)  x           x
exp         85.4 (0.7)  60.5 (0.3)  86.5 (0.4)  89.4 (0.1)  65.4 (9.0)  x
stable_exp  87.2 (0.4)  59.4 (0.3)  87.6 (0.3)  89.1 (0.2)  93.5 (0.5)  x
ring        88.1 (0.0)  59.4 (0.3)  89.4 (0.1)  90.1 (0.1)  94.4 (0.3)  x
lru         89.0 (0.1)  60.2 (0.8)  89.4 (0.1)  89.9 (0.1)  95.1 (0.1)  94.2 (0.4)
""")

# Table 4: training steps per second on an A100.
SPEED = _table("""
tanh        2.0   1.1  0.5   0.5  2.1   0.14
lru         15.9  2.1  14.7  5.7  15.5  2.4
s4d         13.5  2.2  10.6  3.0  24.5  2.6
s5          15.9  2.2  14.4  5.7  15.6  2.3
""")

# Table 5, sCIFAR: (ablation, r_min, r_max) -> accuracy. The ablations are: without stability,
# with stability, and with gamma.
RINGS = {
    (ablation, r_min, r_max): number
    for ablation, rows in {
        "exp": {
            0.9: ("87.6 (0.4)", "87.8 (0.1)", "87.9 (0.2)"),
            0.99: ("83.8 (0.9)", "85.8 (1.2)", "81.9 (3.8)"),
            0.999: ("83.9 (0.2)", "84.8 (0.4)", "84.8 (0.8)"),
        },
        "stable_exp": {
            0.9: ("86.2 (0.2)", "86.6 (0.3)", "87.3 (0.1)"),
            0.99: ("87.8 (0.2)", "87.7 (0.1)", "88.1 (0.0)"),
            0.999: ("87.4 (0.2)", "87.4 (0.1)", "87.5 (0.4)"),
        },
        "lru": {
            0.9: ("86.4 (0.1)", "86.5 (0.1)", "88.3 (0.1)"),
            0.99: ("88.1 (0.1)", "88.4 (0.1)", "89.0 (0.2)"),
            0.999: ("88.1 (0.1)", "88.6 (0.0)", "89.0 (0.1)"),
        },
    }.items()
    for r_max, numbers in rows.items()
    for r_min, number in zip((0.0, 0.5, 0.9), numbers)
}
