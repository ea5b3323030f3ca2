"""The frozen prefix of a stage is a pure function of the image, so it runs once for each image.

What it gives is kept in a `RowStore` that is named by everything it depends on: the prefix's weights, the
preprocessing, the cut, the device, precision and engine. Rows are named by file hash and view. So another run from the
same weights on the same images, with another split, head or fold, finds its rows there, and a new image costs one row.
One pass over the images serves the cuts of all coming stages whose prefix does not change before they start.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import torch
from filelock import Timeout
from torch import Tensor

from neurodense.errors import RunError
from neurodense.scans.preprocess import Preprocess
from neurodense.screen import Screen
from neurodense.training import prefix, processes
from neurodense.training.dataset import ImageRecords, image_batches
from neurodense.training.network import Network
from neurodense.training.precision import Arithmetic
from neurodense.training.prefix import prefix_of, run_prefix
from neurodense.training.recipe import STEPS, Stage
from neurodense.training.store import RowStore
from neurodense.training.views import Views

_VERSION = 1  # of what a row means; raise it when preprocessing or network change their meaning


class Activations:
    """The stores of a run, one a cut.

    Args:
        cache: Folder of all stores.
        network: Its weights name the stores at the time `store` or `fill` is called.
        preprocess: The preprocessing of `images`.
        arithmetic: Device and precision that the prefix runs in.
        views: How augmented views are made.
        screen: Told what is done.
    """

    def __init__(
        self,
        cache: Path,
        network: Network,
        preprocess: Preprocess,
        arithmetic: Arithmetic,
        views: Views,
        screen: Screen,
    ) -> None:
        self.cache = cache
        self.network = network
        self.preprocess = preprocess
        self.arithmetic = arithmetic
        self.views = views
        self.screen = screen
        self._shapes: dict[int, tuple[torch.Size, torch.dtype]] = {}  # of a row; weights do not change them

    def store(self, cut: int) -> RowStore:
        """The store of what steps before `cut` give."""
        return RowStore(self.cache / self._key(cut), *self._row_kind(cut))

    def _row_kind(self, cut: int) -> tuple[torch.Size, torch.dtype]:
        """Shape and dtype of a row: those that torch gives."""
        if cut not in self._shapes:
            size, device = self.preprocess.size, self.arithmetic.device
            probe = run_prefix(self.network, 0, cut, torch.zeros(1, 1, size, size, device=device), self.arithmetic)
            self._shapes[cut] = probe.shape[1:], probe.dtype
        return self._shapes[cut]

    def _key(self, cut: int) -> str:
        digest = hashlib.sha256()
        about = {"version": _VERSION, "cut": STEPS[cut], "preprocess": self.preprocess.model_dump()}
        if cut:
            about["arithmetic"] = str(self.arithmetic)
            about["engine"] = prefix.engine_of(self.network, self.arithmetic)
        digest.update(json.dumps(about, sort_keys=True).encode())
        for name, tensor in self.network.between(0, cut).state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return f"{STEPS[cut]}-{digest.hexdigest()[:20]}"

    def fill(
        self, cuts: Sequence[int], images: ImageRecords, wanted: Sequence[tuple[int, int]], batch: int, workers: int
    ) -> None:
        """Make sure that every wanted row is in the store of every cut.

        Args:
            cuts: Indices in STEPS; one pass over the images serves them all.
            images: The data set.
            wanted: (index in `images`, view) pairs. A cut at the pixels keeps view 0 only: its views cost nothing.
            batch: Images a forward pass; each process runs its share of the images.
            workers: Processes that decode.

        Raises:
            RunError: The disk has too little room.
        """
        with ExitStack() as locks:
            stores = self._to_fill(cuts, images, wanted, locks) if processes.first() else {}
            pairs = [
                (i, v)
                for i, v in sorted(set(wanted), key=lambda pair: (pair[1] > 0, *pair))
                if any(store.missing([self._row(images, i, v if cut else 0)]) for cut, store in stores.items())
            ]
            pairs, lacking = processes.told([pairs, list(stores)])
            if pairs:
                self._pass(pairs, images, lacking, stores, batch, workers)
                processes.told(None)  # nobody reads before the first process has written everything

    def _to_fill(
        self, cuts: Sequence[int], images: ImageRecords, wanted: Sequence[tuple[int, int]], locks: ExitStack
    ) -> dict[int, RowStore]:
        """The stores that lack a wanted row, locked."""
        stores = {cut: self.store(cut) for cut in sorted(set(cuts))}
        needs = {cut: {self._row(images, i, v if cut else 0) for i, v in wanted} for cut in stores}
        missing = {cut: set(store.missing(needs[cut])) for cut, store in stores.items()}
        missing = {cut: names for cut, names in missing.items() if names}
        for cut in stores:
            if cut not in missing:
                self.screen.say(f"activations before {STEPS[cut]}: all {len(needs[cut]):,} rows are in the cache")
        if missing:
            self._check_room(sum(len(names) * stores[cut].row_bytes for cut, names in missing.items()), missing)
        for cut in missing:  # always in the same order, so that two runs cannot wait for each other
            self._lock(stores[cut], locks)
            stores[cut].refresh()  # another run was here
        return {cut: stores[cut] for cut in missing}

    def _lock(self, store: RowStore, locks: ExitStack) -> None:
        lock = store.lock()
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self.screen.say(f"another run is filling {store.folder}; waiting for it")
            lock.acquire()
        locks.callback(lock.release)

    def drop(self, cut: int) -> None:
        """Delete the store of a cut whose prefix was trained in this run: no other run can ever use it."""
        shutil.rmtree(self.store(cut).folder, ignore_errors=True)

    def _pass(
        self,
        pairs: Sequence[tuple[int, int]],
        images: ImageRecords,
        cuts: Sequence[int],
        stores: dict[int, RowStore],
        batch: int,
        workers: int,
    ) -> None:
        """Run the prefix over (image, view) pairs; at each cut append the rows that its store lacks.

        The first process has the stores, and appends what all have made; elsewhere `stores` is empty.
        """
        most, device = batch * processes.size(), self.arithmetic.device
        chunks = [pairs[k : k + most] for k in range(0, len(pairs), most)]
        own = [chunk[processes.share(len(chunk))] for chunk in chunks]
        # Of a batch with fewer images than processes some have none: these read one, and drop it.
        read = [some or chunk[:1] for some, chunk in zip(own, chunks, strict=True)]
        order = [[index for index, _ in some] for some in read]
        # Rows are written, down to the disk, while the next batch is computed.
        with (
            self.screen.bar("frozen layers, once", len(pairs), "images") as bar,
            ThreadPoolExecutor(1) as writer,
            prefix_of(self.network, cuts, self.preprocess.size, self.arithmetic) as run,
        ):
            written: Future[None] | None = None
            batches = zip(chunks, own, read, image_batches(images, order, workers), strict=True)
            for chunk, some, there, (pixels, _) in batches:
                pixels, made = pixels.to(device), []
                found = run(self._views(pixels, images, there))
                for cut in cuts:
                    # At the pixels, a row is the image itself: augmenting it again costs nothing.
                    x = found[cut] if cut else pixels
                    rows = processes.gather(x[: len(some)].to(self._row_kind(cut)[1]), len(chunk))
                    if cut in stores:
                        made.append((stores[cut], [self._row(images, i, v if cut else 0) for i, v in chunk], rows))
                if written is not None:
                    written.result()
                written = writer.submit(_append, made)
                bar.advance(len(chunk))
            if written is not None:
                written.result()

    def _views(self, pixels: Tensor, images: ImageRecords, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Each image, of an (image, view) pair, its own view."""
        out = pixels.clone()
        for view in sorted({view for _, view in pairs} - {0}):
            rows = [k for k, (_, v) in enumerate(pairs) if v == view]
            out[rows] = self.views.make(pixels[rows], images, [pairs[k][0] for k in rows], view)
        return out

    def _row(self, images: ImageRecords, index: int, view: int) -> str:
        return self.views.name(images, index, view)

    def _check_room(self, need: int, missing: dict[int, set[str]]) -> None:
        self.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.cache).free
        what = " and ".join(f"{len(names):,} rows before {STEPS[cut]}" for cut, names in missing.items())
        self.screen.say(f"activations: {what}; {_size(need)} of {_size(free)} free in {self.cache}")
        if need > 0.95 * free:
            raise RunError(
                f"The activation cache needs {_size(need)}; {self.cache} has {_size(free)} free.",
                "--cache FOLDER on a larger disk, or --no-cache to run the frozen layers in every epoch.",
            )


def _append(made: Sequence[tuple[RowStore, list[str], Tensor]]) -> None:
    """Append to each store the rows that it lacks, each once."""
    for store, names, rows in made:
        lacking = set(store.missing(names))
        chosen = [k for k, name in enumerate(names) if name in lacking and name not in names[:k]]
        if chosen:
            store.append([names[k] for k in chosen], rows[chosen])


def shared_cuts(stages: Sequence[Stage], first: int) -> list[int]:
    """Cuts of stage `first` and of those later ones whose prefix no stage in between trains."""
    cuts, lowest = [stages[first].cut], stages[first].cut
    for stage in stages[first + 1 :]:
        if stage.cut <= lowest:
            cuts.append(stage.cut)
        lowest = min(lowest, stage.cut)
    return sorted(set(cuts))


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
