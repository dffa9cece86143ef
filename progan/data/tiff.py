"""What a TIFF's pixels mean where Pillow, which decodes them, does not say so or is wrong."""

from PIL import TiffImagePlugin

from progan.data.depth import MIN_IS_WHITE, TWELVE_BITS, BadImage, kind_of

BITS = 0x0102  # of each channel
PHOTOMETRIC = 0x0106  # 0: the smallest value is white
PLANES = 0x011C  # 2: channels are stored one after another
SAMPLE_FORMAT = 0x0153  # 2: values have a sign


def read_as_meant(image: TiffImagePlugin.TiffImageFile) -> None:
    """Has an image that is not decoded yet read right, and notes what is to be done to it then.

    Raises:
        BadImage: Pillow would drop the sign of its values.
    """
    tags, deep = image.tag_v2, kind_of(image.mode)
    if not deep and 2 in tags.get(SAMPLE_FORMAT, ()):
        raise BadImage("holds 8-bit values with a sign; scale all images alike, to 0 … 255")
    if deep and tags.get(PHOTOMETRIC) == 0:  # Pillow itself inverts images of up to 8 bits
        image.info[MIN_IS_WHITE] = True
    if any("I;12" in str(tile.args) for tile in image.tile):
        image.info[TWELVE_BITS] = True
    if tags.get(PLANES) == 2 and set(tags.get(BITS, ())) == {16}:
        read_planes(image, "B" if tags.prefix == b"MM" else "L")


def read_planes(image: TiffImagePlugin.TiffImageFile, order: str) -> None:
    """Has uncompressed planes of 16 bits decoded as such: Pillow takes them for 8 bits."""
    image.tile = [
        tile._replace(args=(f"{tile.args[0]};16{order}", *tile.args[1:]))
        if isinstance(tile.args, tuple) and len(str(tile.args[0])) == 1
        else tile
        for tile in image.tile
    ]
