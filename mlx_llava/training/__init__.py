"""Training, for every stage of LLaVA: options, loss, schedule, optimizer, step, loop, snapshots."""
