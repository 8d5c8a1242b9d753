"""How the value of one OrchestrationVariable comes about: offers, rounds, votes, convergence."""
