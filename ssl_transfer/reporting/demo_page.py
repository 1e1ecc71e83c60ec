"""The page a newcomer sees first: what the demo did on this machine, whether it helped, and how to go on."""

from __future__ import annotations

from pathlib import Path

from ssl_transfer.reporting.charts import interval_chart, line_chart
from ssl_transfer.reporting.demo_results import Command, DemoResults, comparison_tile, headline
from ssl_transfer.reporting.formats import duration, lower_first, number, percent
from ssl_transfer.reporting.images import image_grid
from ssl_transfer.reporting.page import Page
from ssl_transfer.reporting.results import result_cells
from ssl_transfer.reporting.scatter import scatter

__all__ = ["Command", "DemoResults", "headline", "write_demo_page"]


def write_demo_page(path: str | Path, results: DemoResults) -> Path:
    """Write the demo's page: one HTML file that needs nothing else, under 2 MB for small images.

    Args:
        path: of the file; its folder is made if need be, an older page is replaced.
        results: what was measured, see `DemoResults`.

    Returns:
        The path.
    """
    page = Page(
        f"{number(results.unlabelled)} images, no labels, {duration(results.seconds)}",
        f"Networks on this machine have just learned to describe {results.data_name}, "
        "and nobody told them what they show.",
        eyebrow="ssl-transfer demo",
        numbered=True,
    )
    for part in (_hero, _saw, _learning, _learned, _helped, _own, _footer):
        part(page, results)
    return page.write(path)


def _hero(page: Page, results: DemoResults) -> None:
    ours, floor = results.ends()
    page.add('<div class="finding">').paragraph(headline(results)).add("</div>")
    page.tiles(
        [
            (
                percent(ours.value),
                f"of unseen {results.things} right",
                f"{ours.name}, {results.label_budget} labels a class",
            ),
            (percent(floor.value), "best without pretraining", floor.name),
            comparison_tile(results),
            (duration(results.seconds), "for everything on this page", results.machine),
        ]
    )


def _saw(page: Page, results: DemoResults) -> None:
    page.section(
        "What the network saw",
        f"{number(results.unlabelled)} images without labels. Each objective, the task that pretraining gives the "
        "network, makes its own exercise from the images alone.",
    )
    views = {"original": results.originals}
    views |= {f"view {k + 1}": results.views[:, k] for k in range(results.views.shape[1])}
    restored = {"original": results.clean, "corrupted": results.corrupted, "restored": results.restored}
    page.add('<div class="columns"><div>').heading("SimCLR: recognise the same image twice")
    page.paragraph(
        "Every image appears in random versions, called views: cropped, shifted, turned. The network must find which "
        "views come from the same image, so it learns what stays the same."
    )
    page.add(image_grid(views, what=results.things)).add("</div><div>")
    page.heading("Denoising autoencoder: undo the damage")
    page.paragraph(
        "Every image is corrupted: noise is added and parts are removed. The network must restore the original, "
        "so it learns how the parts of an image belong together."
    )
    page.add(image_grid(restored, what=results.things)).add("</div></div>")


def _learning(page: Page, results: DemoResults) -> None:
    page.section(
        "Learning",
        "The loss says how badly the exercise goes; pretraining only ever tries to lower it. "
        "Whether the features became useful is measured separately, with labels that pretraining never sees.",
    )
    page.add('<div class="columns">')
    for name, curve in results.losses.items():
        page.add(line_chart({name: curve}, x_label="epoch", y_label="training loss", title=f"{name}: loss", height=170))
    page.add("</div>")
    if any(results.accuracy_curves.values()):
        levels = {} if results.accuracy_floor is None else {"Raw pixels": results.accuracy_floor}
        page.add(
            line_chart(
                results.accuracy_curves,
                x_label="epoch",
                y_label="accuracy on the validation split",
                title="kNN accuracy: is the nearest image of the same class?",
                reference=levels,
                as_percent=True,
                height=280,
            )
        )
        page.paragraph(_progress(results), quiet=True)


def _progress(results: DemoResults) -> str:
    """The validation curves in words."""
    told = [(name, curve[0][1], curve[-1][1]) for name, curve in results.accuracy_curves.items() if curve]
    changes = [f"{lower_first(name)} went from {percent(first)} to {percent(last)}" for name, first, last in told]
    text = (
        "kNN gives an image the class of its nearest neighbours among the training images. An epoch is one pass over "
        f"all images. In this run, {'; '.join(changes)}."
    )
    if results.accuracy_floor is not None:
        text += f" The dashed line is a floor: the same reading of the raw pixels, {percent(results.accuracy_floor)}."
    return text


def _learned(page: Page, results: DemoResults) -> None:
    page.section(
        "What it learned",
        "Each dot is an image. Features are the numbers by which a network describes it; dots lie close together where "
        "these numbers are alike. Colours are the true classes, which pretraining never saw.",
    )
    page.add(
        scatter(
            results.maps,
            results.labels,
            results.class_names,
            results.thumbnails,
            what=results.thing,
            caption=f"Images: {results.map_images}. Drawn in two dimensions with {results.map_method}; "
            "distances between far groups mean little.",
        )
    )


def _helped(page: Page, results: DemoResults) -> None:
    page.section(
        "Did it help?",
        f"A simple classifier gets {number(results.labelled)} labelled images, {results.label_budget} a class, and "
        f"names the {number(results.test)} of the test split, which played no part in training or in any choice. "
        "A floor is what needs no pretraining; an encoder that does not beat it is not worth having.",
    )
    page.add(
        interval_chart(
            results.rows,
            title=f"Accuracy on the test split at {results.label_budget} labels a class",
            note=f"Dot: mean over seeds; line: {results.interval}. A seed draws other labelled images. Grey: floors.",
        )
    )
    columns, cells, ours = result_cells(results.rows)
    caption = f"Test split, {number(results.test)} images, {results.label_budget} labels a class; {results.interval}."
    page.table(columns, cells, caption, ours)


def _own(page: Page, results: DemoResults) -> None:
    page.section(
        "Now your own images",
        "Any folder of images will do. The encoder, the network that gives the features, is kept.",
    )
    for command in results.own_images:
        page.code(command.text, command.label)


def _footer(page: Page, results: DemoResults) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    repeat = "; ".join(command.text for command in results.reproduce)
    page.footer(
        [
            (
                "Data",
                f"{results.data_name}: {number(results.unlabelled)} unlabelled, {number(results.test)} test images",
            ),
            ("Machine", results.machine),
            ("Time", duration(results.seconds)),
            ("Seed", str(results.seed)),
            ("Versions", versions),
        ]
        + ([("Repeat", repeat)] if repeat else [])
    )
