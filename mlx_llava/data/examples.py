"""The examples of a dataset, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.dataset import Dataset
from mlx_llava.data.feature_files import FeatureFiles, feature_batch, read_all
from mlx_llava.data.records import Record
from mlx_llava.inputs import Batch, collate


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples of a dataset, built on demand; can be sent to a worker."""

    dataset: Dataset
    builder: ExampleBuilder
    feature_files: FeatureFiles | None = None
    """The cache of vision features."""

    def __len__(self) -> int:
        return len(self.dataset)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The batch of some records. If the features of all its images are cached, no image is opened."""
        records = list(self.dataset.records(indices))
        if self.feature_files is None:
            return self._batch(records)
        keys = [self.feature_files.key(path) for record in records for path in self.builder.image_paths(record)]
        features = read_all(self.feature_files, keys)
        return feature_batch(self._batch(records, open_images=features is None), keys, features)

    def _batch(self, records: Sequence[Record], *, open_images: bool = True) -> Batch:
        return collate([self.builder.example(record, open_images=open_images) for record in records])
