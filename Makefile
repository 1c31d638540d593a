# What people and CI both run. `make help` lists it.
.DEFAULT_GOAL := help
