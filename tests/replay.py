"""The terminal chat with scripted answers, for work on the screen without a model."""

import sys

from scripted import ScriptedWorker
from spine import EMBEDDED

from mlx_llava.engine.messages import Ask, Load
from mlx_llava.engine.thread import Engine
from mlx_llava.tui.app import run
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.session.settings import Settings

ANSWER = """You asked: *{question}*

There is a **blue square** on the left and a yellow triangle on the right.

| shape | colour |
|---|---|
| square | blue |
| triangle | yellow |

1. The square is **larger** than the triangle, and it stands so far to the left that there is room for another one.
   - It has `4` sides.
2. The triangle points up.

```python
def area(side: float) -> float:
    return side**2
```
"""


def answer(request: Ask) -> str:
    """Answer with every kind of Markdown."""
    return ANSWER.format(question=request.exchanges[-1].question)


if __name__ == "__main__":
    worker = ScriptedWorker(answer, pause=0.02)
    session = Session(lambda: Engine(lambda: worker), Settings(), Record(History(None)))
    sys.exit(run(session, Opening(Load("scripted"), (EMBEDDED / "examples" / "two_shapes_wide.png",))))
