"""All errors that are shown to users, with their exit codes.

LlavaError                 1   anything we know how to explain
├── UsageError             2   wrong or contradictory options, or one that names a missing file of data
├── InstallationError      1   a package that is needed is missing or broken
├── ModelError             3   no such model, checkpoint or adapters, or not a kind that the program takes
├── CheckpointError        1   a weight file or tokenizer is damaged or does not match its config
│   └── ConfigError        1   a config key is out of range or not implemented
├── ConversionError        1   the checkpoint cannot be converted as requested
├── PromptError            1   images, image marks and text do not match
├── RecordError            1   a record of training data is invalid
├── TrainingError          1   a run cannot continue
├── ImageError             4   an image is missing, unreadable or too large
├── LimitError             5   the request does not fit into the context or the memory, or an answer was cut
└── NetworkError           7   the hub, or the address of an image, cannot be reached

The number is the exit code of the programs. `problem` is one line that says what is wrong,
`advice` one line that says what to do.
"""


class LlavaError(Exception):
    """An error with one line that says what is wrong and one that says what to do."""

    exit_code = 1

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}\n{advice}")
        self.problem = problem
        self.advice = advice


class UsageError(LlavaError):
    """The options are wrong or contradict each other."""

    exit_code = 2


class InstallationError(LlavaError):
    """A package that is needed is missing or broken."""


class ModelError(LlavaError):
    """There is no such model, checkpoint or adapter folder, or it is not of the kind that the program takes."""

    exit_code = 3


class CheckpointError(LlavaError):
    """A file of a checkpoint is damaged, or does not match its config."""


class ConfigError(CheckpointError):
    """A key of config.json is out of range, or asks for something not implemented."""


class ConversionError(LlavaError):
    """The checkpoint cannot be converted as requested."""


class PromptError(LlavaError):
    """Images, image marks and text do not match."""


class RecordError(LlavaError):
    """A record of training data is invalid."""


class TrainingError(LlavaError):
    """A training run cannot continue."""


class ImageError(LlavaError):
    """An image is missing, unreadable or too large."""

    exit_code = 4


class LimitError(LlavaError):
    """The request does not fit into the context or the memory, or a limit cut an answer of a given format."""

    exit_code = 5


class NetworkError(LlavaError):
    """The hub, or the address of an image, cannot be reached."""

    exit_code = 7
