"""Everything that talks to the outside: the cluster, pods' reports, webhooks, HTTP clients, signals."""
