"""Make the built-in emoji tables again: `python tests/data/build_emoji.py`.

Fetches the packages below (165 MB) with `npm pack` into outputs/packages, checks them against their hashes, and writes
emoji.parquet, emoji_pool.parquet and the Devanagari font. The same versions of pillow and pyarrow give the same bytes.
"""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from scipy.sparse.csgraph import connected_components

sys.path.insert(0, str(Path(__file__).parents[2]))  # mmutils, from wherever this is started

from mmutils.data.contract import SPLITS
from mmutils.data.emoji_topics import CLASSES, FOLDER, LABELLED, LANGUAGES, POOL
from mmutils.data.tools.audit import near_pairs, picture_hash

DOWNLOADS = Path("outputs/packages")
FONT = FOLDER.parents[1] / "report/fonts/NotoSansDevanagari.ttf"
SHARES = (0.55, 0.15, 0.30)  # of each group, for train, val, test
PACKAGES = {  # npm package -> its version and the start of the sha512 of its tarball
    "emoji-datasource-google": ("16.0.0", "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++"),
    "emoji-datasource-twitter": ("16.0.0", "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi"),
    "@lobehub/fluent-emoji-3d": ("1.1.0", "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqT"),
    "cldr-annotations-full": ("48.2.0", "DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGH"),
    "cldr-annotations-derived-full": ("48.2.0", "log62km+AOzI7n/NEuNNFV0mg9DWnt67"),
    "@expo-google-fonts/noto-sans-devanagari": ("0.4.1", "26boYPNKGP1r4R5MxsMAY/zCQOwiXLOJ"),
}
WANTED = re.compile(r"(img/\w+/64/|assets/|annotations\w*/(en|hi)/|emoji\.json|400Regular/.*ttf$)")  # files in them
STYLES = {  # style -> package, folder, suffix of its picture files
    "noto": ("emoji-datasource-google", "img/google/64/", ".png"),
    "fluent": ("@lobehub/fluent-emoji-3d", "assets/", ".webp"),
    "twemoji": ("emoji-datasource-twitter", "img/twitter/64/", ".png"),
}
TONES = ("1F3FB", "1F3FE")  # the skin tones kept in the pool: light, medium-dark
VARIANT = re.compile(  # words that tell apart the members of a family
    r"\b(m[ae]n|wom[ae]n|person|people|boy|girl|child|old|older|adults?|male|female|mer(man|maid|person)|mrs|mx|santa|prince|princess"
    r"|red|orange|yellow|green|light blue|blue|purple|brown|black|white|grey|pink"
    r"|\S+ o’clock|\S+-thirty|1st|2nd|3rd|low|medium|high|left(wards)?|right(wards)?|up|down|facing right"
    r"|raised|lowered|closed|open|first|last|waxing|waning|new|full|quarter|gibbous|crescent)\b|[:,.]"
)
Packages = dict[str, dict[str, bytes]]  # package -> path in it -> content


def main() -> None:
    packages = {package: read_package(package) for package in PACKAGES}
    drawings = collect(packages)
    labelled = add_split(add_family(drawings[drawings["labelled"]].reset_index(drop=True)))
    common = ["category", "subgroup", "family", "name_en", "name_hi"]
    columns = ["emoji", "codepoints", "split", *common, "keywords_en", "keywords_hi", "picture"]
    write(labelled[columns], LABELLED)
    write(make_pool(drawings, labelled)[["emoji", "codepoints", "style", *common, "picture"]], POOL)
    font = "400Regular/NotoSansDevanagari_400Regular.ttf"
    FONT.write_bytes(packages["@expo-google-fonts/noto-sans-devanagari"][font])


def read_package(package: str) -> dict[str, bytes]:
    """The wanted files of a package by their path in it, fetched if need be. ValueError if its hash is another."""
    version, expected = PACKAGES[package]
    archive = DOWNLOADS / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"  # as npm names it
    if not archive.is_file():
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--loglevel=error", f"{package}@{version}"], cwd=DOWNLOADS, check=True)
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if not digest.startswith(expected):
        raise ValueError(f"{archive} is not the package that is expected (sha512 {digest}): delete it and try again")
    with tarfile.open(archive) as files:
        members = {member.name.partition("/")[2]: member for member in files if member.isfile()}
        return {path: files.extractfile(member).read() for path, member in members.items() if WANTED.match(path)}


def collect(packages: Packages) -> pd.DataFrame:
    """One row for each drawing with a name in both languages: every style, every skin tone in TONES.

    `labelled` marks the Noto drawings in one of the CLASSES whose CLDR annotations are not derived.
    """
    annotated = {language: annotations(packages, "annotations", language) for language in LANGUAGES}
    derived = {language: annotations(packages, "annotationsDerived", language) for language in LANGUAGES}
    rows = []
    for record in json.loads(packages["emoji-datasource-google"]["emoji.json"]):
        toned, category = record.get("skin_variations", {}), record["category"]
        for version in (record, *(toned[tone] for tone in TONES if tone in toned)):
            emoji = "".join(chr(int(point, 16)) for point in version["unified"].split("-"))
            key = emoji.replace("\ufe0f", "")  # CLDR writes its keys without the emoji style mark
            entries = {language: annotated[language].get(key) or derived[language].get(key) for language in LANGUAGES}
            if category == "Component" or None in entries.values():
                continue
            row = {"emoji": emoji, "codepoints": version["unified"].lower(), "base": record["unified"].lower()}
            row |= {"category": category, "subgroup": record["subcategory"]}
            row |= {f"name_{language}": entry["tts"][0] for language, entry in entries.items()}
            row |= {f"keywords_{language}": entry["default"] for language, entry in entries.items()}
            in_labelled = (
                version is record and category in CLASSES and all(key in annotated[each] for each in LANGUAGES)
            )
            plain = version is record and category != "Flags"  # skin tones and flags in one style are enough
            for style, (package, folder, suffix) in STYLES.items():
                data = packages[package].get(folder + version["image"].removesuffix(".png") + suffix)
                if data and (style == "noto" or plain):
                    labelled = style == "noto" and in_labelled
                    rows.append(row | {"style": style, "labelled": labelled, "picture": compress(data, labelled)})
    return pd.DataFrame(rows).sort_values(["codepoints", "style"], ignore_index=True)


def annotations(packages: Packages, kind: str, language: str) -> dict[str, dict]:
    """CLDR's names ("tts") and keywords ("default") by emoji."""
    package = "cldr-annotations-full" if kind == "annotations" else "cldr-annotations-derived-full"
    entries = json.loads(packages[package][f"{kind}/{language}/annotations.json"])[kind]["annotations"]
    return {emoji.replace("\ufe0f", ""): entry for emoji, entry in entries.items()}


def compress(data: bytes, transparent: bool) -> bytes:
    """A picture file -> WebP of 64x64 pixels, on white if it is not to be transparent (which takes a third less)."""
    picture = Image.open(io.BytesIO(data)).convert("RGBA")
    if picture.size != (64, 64):
        picture = picture.resize((64, 64), Image.Resampling.LANCZOS)
    if not transparent:
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    buffer, quality = io.BytesIO(), 80 if transparent else 70
    picture.save(buffer, "WEBP", quality=quality, alpha_quality=80, method=6, use_sharp_yuv=True)
    return buffer.getvalue()


def stem(name: str) -> str:
    """What is left of a name without the words that tell apart the members of a family."""
    return " ".join(VARIANT.sub(" ", name.lower()).split())


def add_family(labelled: pd.DataFrame) -> pd.DataFrame:
    """Emoji of one subgroup with the same stem, and those whose drawings are nearly the same, form a family.

    The family is named by the code points of its first member.
    """
    keys = (labelled["subgroup"] + "/" + labelled["name_en"].map(stem)).to_numpy()
    hashes = hashes_of(labelled)
    linked = np.equal.outer(keys, keys)
    linked[tuple(np.array(near_pairs(hashes, hashes)).T)] = True
    _, family = connected_components(linked)
    return labelled.assign(family=labelled.groupby(family)["codepoints"].transform("first"))


def add_split(labelled: pd.DataFrame) -> pd.DataFrame:
    """Whole families to the splits, group by group: large ones first, equal ones in an order by hash, each to the split
    that is then least full in proportion to its share. A family across groups follows the first."""
    split = {}
    for category in CLASSES:
        families = labelled.loc[labelled["category"] == category, "family"]
        want = np.floor(np.array(SHARES) * len(families) + 0.5)
        want[0] += len(families) - want.sum()
        have = np.array([sum(families.map(split.get) == name) for name in SPLITS], dtype=float)
        sizes = families.value_counts()
        order = sorted(set(sizes.index) - set(split), key=lambda name: hashlib.sha256(name.encode()).digest())
        for family in sorted(order, key=sizes.get, reverse=True):
            fill = (have + sizes[family]) / want
            fill[have + sizes[family] > want] += 10  # rather another than too full
            split[family] = SPLITS[fill.argmin()]
            have[fill.argmin()] += sizes[family]
    return labelled.assign(split=labelled["family"].map(split))


def make_pool(drawings: pd.DataFrame, labelled: pd.DataFrame) -> pd.DataFrame:
    """All other drawings, without those of an emoji in val or test, a relative of one, or nearly the same as one.

    A relative: the same base without the skin tone, the same stem (also of the part before a colon, "kiss: man, man"),
    or a sequence that begins with that emoji ("man: red hair").
    """
    held_out = labelled[labelled["split"] != "train"]
    by_base = labelled.set_index("codepoints")["family"].to_dict()
    single = labelled[labelled["emoji"].str.replace("\ufe0f", "").str.len() == 1]
    by_first = dict(zip(single["emoji"].str[0], single["family"], strict=True))
    by_stem = dict(zip(labelled["subgroup"] + labelled["name_en"].map(stem), labelled["family"], strict=True))

    def relatives(row) -> list[str]:
        if row.base in by_base:
            return [by_base[row.base]]
        stems = [row.subgroup + stem(row.name_en), row.subgroup + stem(row.name_en.split(":")[0])]
        return [family for family in (*map(by_stem.get, stems), by_first.get(row.emoji[0])) if family]

    pool = drawings[~drawings["labelled"]].reset_index(drop=True)
    related = [relatives(row) for row in pool.itertuples()]
    pool["family"] = [families[0] if families else base for families, base in zip(related, pool["base"], strict=True)]
    held_out_drawings = drawings[drawings["base"].isin(held_out["codepoints"])]
    alike = {i for i, _ in near_pairs(hashes_of(pool), hashes_of(held_out_drawings))}
    families = set(held_out["family"])
    return pool[[i not in alike and families.isdisjoint(related[i]) for i in pool.index]]


def hashes_of(rows: pd.DataFrame) -> np.ndarray:
    return np.array([picture_hash(Image.open(io.BytesIO(picture))) for picture in rows["picture"]])


def write(rows: pd.DataFrame, path: Path) -> None:
    """A parquet file without anything that depends on the day or the machine."""
    table = pa.table({column: pa.array(rows[column].tolist()) for column in rows})
    pq.write_table(table, path, compression="zstd", compression_level=19)
    print(f"{path}: {len(rows)} rows, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
