"""Who executes a notebook: somebody in an editor, or a program such as papermill."""

from typing import Any

from IPython.core.getipython import get_ipython


def attended() -> bool:
    """Whether somebody is there who could use a widget.

    Every execute request of the Jupyter protocol says whether its sender can be asked for input (``allow_stdin``):
    JupyterLab and other editors say yes; papermill, nbclient, nbconvert and nbval say no, wherever they are started.
    """
    parent: dict[str, Any] = getattr(get_ipython(), "get_parent", dict)()
    return bool(parent.get("content", {}).get("allow_stdin", False))
