"""The job with the form: what a person says of a break, from the UI's launchpad."""

import dagster as dg
from pydantic import Field

from p33_pipeline.breaks_command import known_breaks
from p33_pipeline.registry import registry_of
from p33_pipeline.resources import P33, sentences


class Annotation(dg.Config):
    """What is said of one break; what is left empty stays as it is."""

    break_id: str = Field(description="As the report and `p33 breaks list` show it")
    by: str = Field(description="Who says so")
    state: str = Field(default="", description="open, investigating, explained, adjust proposed or adjusted")
    owner: str = Field(default="", description="Who looks at it")
    comment: str = Field(default="", description="What was found")


@dg.op(description="Writes the annotation into the registry beside the archive.")
def annotate(context: dg.OpExecutionContext, config: Annotation, p33: P33) -> None:
    with sentences():
        if config.break_id not in known_breaks(p33.history()):
            raise ValueError(f"no audit found a break {config.break_id[:64]}: see the report or `p33 breaks list`")
        registry = registry_of(p33.settings())
        note = registry.annotate(config.break_id, by=config.by, state=config.state, owner=config.owner or None,
                                 comment=config.comment or None)
    context.log.info("%s is now %s, owner %s: %s", config.break_id, note.state, note.owner or "nobody", note.comment)


@dg.job(name="annotate_break", executor_def=dg.in_process_executor,
        description="Says who looks at a break, how it stands and why. Fill in the form and launch.")
def annotate_break() -> None:
    annotate()
