"""``dsae similarity``: cosines of the codes of pairs of sequences."""

from dataclasses import asdict

import click
import torch

from pyro_dsae.analyses import similarity as analysis
from pyro_dsae.cli import options


@click.command()
@options.run_argument
@options.data_option
@options.part_option
@options.seed_option("the twelve pairs")
@options.device_option
@options.json_option
def similarity(
    run: str, data: str | None, part: str, seed: int, device: torch.device, as_json: bool
) -> None:
    """Compare the codes of sequences that share, or do not share, appearance and motion.

    Twelve seeded pairs, as in the paper; mean, 5th and 95th percentile over all pairs of the part,
    of 4,000 sequences where it has more; and the AUROC of "same appearance" by cos f and of "same
    motion" by cos z.
    """
    with options.open_run(run, data, part, device) as opened:
        found = analysis.similarity(
            opened.codes,
            opened.labels("static"),
            opened.labels("dynamic"),
            seed,
        )
        names = {
            index: opened.file.ids[opened.rows[index]]
            for pair in found.table
            for index in (pair.a, pair.b)
        }
        facts = {**opened.about(), **asdict(found)}
    if as_json:
        options.print_facts(facts, as_json)
        return
    width = max(map(len, names.values()), default=1)
    click.echo(f"{'A':{width}}  {'B':{width}}  appearance  motion       cos f   cos z")
    for pair in found.table:
        kind = _kind(pair.same_appearance, pair.same_motion)
        click.echo(
            f"{names[pair.a]:{width}}  {names[pair.b]:{width}}  {kind}  {pair.cos_f:6.3f}  "
            f"{pair.cos_z:6.3f}"
        )
    click.echo("\nappearance  motion          pairs  cos f (5 %, 95 %)          cos z (5 %, 95 %)")
    for stratum in found.strata:
        kind = _kind(stratum.same_appearance, stratum.same_motion)
        spreads = "    ".join(
            f"{spread.mean:6.3f} ({spread.percentile_5:6.3f}, {spread.percentile_95:6.3f})"
            for spread in (stratum.cos_f, stratum.cos_z)
        )
        click.echo(f"{kind}  {stratum.pairs:9,}  {spreads}")
    click.echo("")
    aurocs = {key: facts[key] for key in ("auroc_appearance", "auroc_motion")}
    options.print_facts(aurocs, as_json)


def _kind(same_appearance: bool, same_motion: bool) -> str:
    words = ["same" if same else "different" for same in (same_appearance, same_motion)]
    return f"{words[0]:10}  {words[1]:9}"
