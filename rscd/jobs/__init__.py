"""Many pairs: manifest, ledger, schedule, summary."""
