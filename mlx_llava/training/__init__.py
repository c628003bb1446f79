"""Training: loss, schedule, optimizer, step and adapters, for every stage of LLaVA."""
