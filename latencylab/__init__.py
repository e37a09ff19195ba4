"""The library behind the notebooks: experiments, backends, run folders, statistics, figures and reports."""

__version__ = "0.1.0"
