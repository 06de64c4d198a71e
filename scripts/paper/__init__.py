"""The results of Orvieto et al. (2023) and of Ahuja & Morency (2018)."""
