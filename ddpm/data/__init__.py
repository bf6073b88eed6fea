"""Images of any source, prepared once as a uint8 memory map.

A source is scikit-learn's digits, a dataset on the Hub, a folder (parquet files, or images, nested or flat, also in
zip archives), or an array in a .npy or .npz file.

    options.py     what decides the prepared pixels
    sources.py     what a source is, whether its content has changed, and which splits are used
    folders.py     folders of image files: what is used, and what is left out and why
    listing.py     which files lie below a folder
    archives.py    pictures in zip archives
    splits.py      which folders are splits
    labels.py      labels from tables that lie beside pictures
    tables.py      datasets that the `datasets` library reads, local or on the Hub
    arrays.py      images in .npy and .npz files
    columns.py     which column of a table holds the images
    cells.py       what people write into such a column: files, base64, lists
    groups.py      images that belong together, and are held out together
    decoding.py    one encoded image to pixels
    transparency.py  what transparent pictures are laid on
    survey.py      what the values of all images tell
    preparing.py   from a source to files in the cache
    cache.py       which prepared images are whole, and which are old
    wording.py     lists and file names in messages
    images.py      the prepared images, and how they become tensors
"""

from ddpm.data.images import Images, resident, take, to_float
from ddpm.data.options import DataOptions
from ddpm.data.preparing import prepare

__all__ = ["DataOptions", "Images", "prepare", "resident", "take", "to_float"]
