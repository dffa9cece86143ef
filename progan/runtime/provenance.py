"""Marks in image files: that a trained generator made them, and which one. No paths, no user names.

XMP with IPTC's digital source type is what photo programs, search engines and platforms look for
(https://iptc.org/std/photometadata/documentation/userguide, "Digital Source Type").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from progan import __version__
from progan.runtime.text import printable, within

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
SOFTWARE = f"progan {__version__}"
MOST_BYTES = 1000  # of a fact, as a name in a snapshot may be long; XMP in a JPEG takes 65,000
XMP_TAG = 700  # of TIFF
PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/">
   <Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
   <xmp:CreatorTool>{software}</xmp:CreatorTool>
   <dc:description>
    <rdf:Alt><rdf:li xml:lang="x-default">{text}</rdf:li></rdf:Alt>
   </dc:description>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


@dataclass(frozen=True)
class Provenance:
    """Where a picture comes from; `Snapshot.provenance` makes it.

    Args:
        facts: by name, for example the seed and the class. Characters that do not print are
            written as escapes, and long texts are cut.
        composite: whether the picture has images of other sources, too, such as training images.
    """

    facts: Mapping[str, str]
    composite: bool = False

    def cleaned(self) -> dict[str, str]:
        return {name: within(MOST_BYTES, printable(text)) for name, text in self.facts.items()}

    @property
    def source_type(self) -> str:
        """IPTC's address for what kind of picture this is."""
        kinds = {True: "compositeWithTrainedAlgorithmicMedia", False: "trainedAlgorithmicMedia"}
        return SOURCE_TYPES + kinds[self.composite]

    @property
    def text(self) -> str:
        """One line for people, for files that have room for a comment only."""
        made = "has images from" if self.composite else "was made by"
        facts = "".join(f"; {name}: {text}" for name, text in self.cleaned().items())
        return f"This picture {made} a trained generator ({SOFTWARE}){facts}"

    def xmp(self) -> bytes:
        """The XMP packet, the same bytes for the same facts."""
        values = {"source": self.source_type, "software": SOFTWARE, "text": self.text}
        return PACKET.format(**{name: escape(text) for name, text in values.items()}).encode()

    def save_options(self, kind: str) -> dict[str, Any]:
        """Keywords for Pillow's `Image.save`, also of animations.

        Args:
            kind: Pillow's name of the format. PNG (and APNG) takes XMP and a text chunk for each
                fact; WEBP, JPEG, AVIF and TIFF take XMP; GIF a comment; others nothing.
        """
        if kind == "PNG":
            chunks = PngInfo()
            for name, text in {"Software": SOFTWARE, **self.cleaned()}.items():
                chunks.add_text(name, text)
            chunks.add_itxt("XML:com.adobe.xmp", self.xmp().decode())
            return {"pnginfo": chunks}
        if kind == "TIFF":
            tags = ImageFileDirectory_v2()
            tags[XMP_TAG] = self.xmp()
            return {"tiffinfo": tags}
        if kind == "GIF":
            return {"comment": f"{self.text}; {self.source_type}".encode()}
        return {"xmp": self.xmp()} if kind in ("WEBP", "JPEG", "AVIF") else {}
