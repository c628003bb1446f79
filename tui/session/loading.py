"""Which model answers, and which one is being loaded."""

from mlx_llava.engine.messages import Load, Loaded, ModelFacts


class Loader:
    """Follows the loading of models."""

    def __init__(self) -> None:
        self.model: ModelFacts | None = None
        self.current: Load | None = None
        """The request that loaded the last model."""
        self.pending: Load | None = None
        """The last request, until its model is ready."""
        self._replaced: ModelFacts | None = None

    def start(self) -> None:
        """Loading started: the previous model is no longer available."""
        self._replaced, self.model = self.model, None

    def finish(self, event: Loaded) -> None:
        self.model, self.current = event.model, event.load
        if self.pending is event.load:
            self.pending = None

    def fail(self) -> None:
        self.model, self.pending = self._replaced, None

    def crash(self) -> None:
        self.model = self.pending = None
