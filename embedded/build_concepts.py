"""Build `data/raw/openmoji/concepts.csv`: the concepts of StyleMoji, in the order that defines the default universe.

Run once as `python -m embedded.build_concepts <openmoji.csv>`, where `openmoji.csv` is `data/openmoji.csv` of the npm package
`openmoji` 17.0.0. The first 300 rows are picked by hand and interleaved over the eight groups, so that any prefix is
balanced; the others are everything else that makes sense as a sticker.
"""

import csv
import sys
from itertools import zip_longest
from pathlib import Path

OUT_PATH = Path(__file__).resolve().parents[1] / "data" / "raw" / "openmoji" / "concepts.csv"

# Group -> how many of its names belong to the first 300. The names follow, most distinctive first.
QUOTAS = {"animal": 44, "plant": 38, "food": 42, "vehicle": 34, "place": 36, "clothing": 34, "hobby": 36, "tool": 36}

# "annotation" or "annotation>short name", separated by semicolons.
PICKS = {
    "animal": """dog face>dog; cat face>cat; fox; lion; elephant; rabbit face>rabbit; hedgehog; penguin; frog; octopus; butterfly;
        snail; giraffe; panda; owl; turtle; shark; flamingo; bat; crab; horse face>horse; pig face>pig; cow face>cow; koala; bear;
        spouting whale>whale; dolphin; fish; snake; spider; honeybee>bee; lady beetle>ladybug; duck; swan; parrot; unicorn; zebra;
        kangaroo; mouse face>mouse; crocodile; scorpion; jellyfish; chicken; camel; sloth; raccoon; tiger face>tiger; wolf; eagle; ant""",
    "plant": """rose; sunflower; tulip; cactus; palm tree; evergreen tree>pine tree; deciduous tree>tree; mushroom; maple leaf;
        four leaf clover>clover; potted plant; seedling; cherry blossom; banana; grapes; watermelon; pineapple; strawberry; red apple>apple;
        pear; cherries; lemon; tangerine>orange; peach; avocado; eggplant; carrot; ear of corn>corn; broccoli; hot pepper>chili;
        tomato; onion; garlic; coconut; kiwi fruit>kiwi; peanuts>peanut; lotus; blueberries; hibiscus; potato; mango""",
    "food": """hamburger; pizza; french fries>fries; hot dog; taco; croissant; pretzel; doughnut; cookie; cupcake; birthday cake;
        soft ice cream>ice cream; lollipop; candy; chocolate bar>chocolate; popcorn; cheese wedge>cheese; bread; baguette bread>baguette;
        bacon; cooking>fried egg; pancakes; waffle; sandwich; sushi; rice ball; steaming bowl>noodles; spaghetti; fried shrimp; dango;
        dumpling; takeout box; pie; honey pot>honey; hot beverage>coffee; glass of milk>milk; teapot; wine glass>wine;
        cocktail glass>cocktail; beer mug>beer; bubble tea; cup with straw>soda; poultry leg>drumstick; meat on bone>meat; bagel; burrito""",
    "vehicle": """bicycle; airplane; rocket; sailboat; bus; automobile>car; helicopter; tractor; fire engine; ambulance; locomotive;
        motorcycle; motor scooter>scooter; taxi; police car; delivery truck>truck; racing car; flying saucer>ufo; skateboard;
        roller skate; kick scooter; canoe; speedboat; ferry; passenger ship>cruise ship; parachute; aerial tramway>cable car;
        satellite; tram; bullet train; auto rickshaw>rickshaw; pickup truck; small airplane>small plane; wheel; monorail; minibus; drone""",
    "place": """house; castle; volcano; snow-capped mountain>mountain; desert island>island; church; mosque; tent; ferris wheel;
        circus tent>circus; fountain; lighthouse of alexandria>lighthouse; eiffel tower; great pyramid of giza>pyramid; factory; hospital;
        school; classical building>temple; stadium; hut; Statue of Liberty>statue; sun; crescent moon>moon; star; ringed planet>planet;
        rainbow; cloud; snowflake; snowman; fire; tornado; water wave>wave; bridge at night>bridge; cityscape>city;
        high voltage>lightning; desert; office building>office; moai; sunrise""",
    "clothing": """glasses; sunglasses; t-shirt; dress; jeans; necktie>tie; coat; scarf; gloves; socks; kimono; bikini; shorts; handbag;
        backpack; high-heeled shoe>high heel; running shoe>sneaker; hiking boot>boot; thong sandal>sandal; ballet shoes; crown; top hat;
        graduation cap; billed cap>cap; woman’s hat>sun hat; military helmet>helmet; ring; lipstick; umbrella; watch;
        luggage>suitcase; folding hand fan>fan; purse; lab coat; goggles; safety vest; man’s shoe>shoe; one-piece swimsuit>swimsuit""",
    "hobby": """soccer ball; basketball; baseball; tennis; american football; bowling; ping pong; badminton; boxing glove; fishing pole>fishing rod;
        skis; bullseye>target; kite; game die>dice; puzzle piece>puzzle; teddy bear; video game>gamepad; artist palette>palette; balloon;
        trophy; sports medal>medal; wrapped gift>gift; jack-o-lantern>pumpkin; guitar; violin; trumpet; saxophone; drum; accordion;
        musical keyboard>piano; microphone; headphone>headphones; musical note; maracas; harp; volleyball; ice skate; radio; yo-yo;
        magic wand; crystal ball; bow and arrow""",
    "tool": """hammer; axe; wrench; scissors; key; locked>padlock; light bulb; candle; pencil; paintbrush; magnet; ladder; shovel; gear;
        toolbox; screwdriver; carpentry saw>saw; broom; bucket; toothbrush; camera; television; laptop; mobile phone>phone; alarm clock;
        hourglass done>hourglass; telescope; microscope; test tube; syringe; magnifying glass tilted left>magnifying glass; chair;
        bell; envelope>letter; open book>book; shopping cart; kitchen knife>knife; spoon; bomb; shield; paperclip; flashlight; bathtub; door""",
}

# Official group or subgroup -> our group, for the concepts that were not picked by hand.
OTHER_GROUPS = {
    "smileys-emotion": "face",
    "people-body": "person",
    "symbols": "symbol",
    "animals-nature": "animal",
    "food-drink": "food",
    "travel-places": "place",
    "activities": "hobby",
    "objects": "tool",
    "plant-flower": "plant",
    "plant-other": "plant",
    "food-fruit": "plant",
    "food-vegetable": "plant",
    "transport-ground": "vehicle",
    "transport-water": "vehicle",
    "transport-air": "vehicle",
    "clothing": "clothing",
    "music": "hobby",
    "musical-instrument": "hobby",
    "gardening": "tool",
    "healthcare": "tool",
    "technology": "tool",
    "religion": "symbol",
    "zodiac": "symbol",
    "climate-environment": "place",
}
EXTRA_SUBGROUPS = {"animals-nature", "food-drink", "gardening", "healthcare", "objects", "technology", "travel-places", "climate-environment"}
SKIPPED_SUBGROUPS = {"family", "person-symbol", "hair-style", "skin-tone"}
SYMBOL_SUBGROUPS = {"religion", "zodiac"}
SKIPPED_WORDS = (
    "button",
    "o’clock",
    "-thirty",
    "mx claus",
    "man ",
    "woman ",
    "men ",
    "women ",
    "man:",
    "woman:",
    "schwäbisch",
    "trump",
    "thunberg",
    "ibeacon",
    "arduino",
    "raspberry",
    "hal 9000",
    "bavaria",
    "badge",
    "guy fawkes",
    "tardis",
    "bdsm",
)


def is_sticker(row: dict[str, str]) -> bool:
    """Say whether a row that was not picked by hand is worth drawing: no flags, letters, brands, arrows, look-alikes."""
    name, group, subgroup = row["annotation"].lower(), row["group"], row["subgroup"]
    if group in ("flags", "component", "extras-unicode") or subgroup in SKIPPED_SUBGROUPS:
        return False
    if group == "extras-openmoji" and subgroup not in EXTRA_SUBGROUPS:
        return False
    if group == "symbols" and subgroup not in SYMBOL_SUBGROUPS:
        return False
    gendered = "2640" in row["hexcode"] or "2642" in row["hexcode"]
    return not gendered and not any(word in name for word in SKIPPED_WORDS)


def read_picks(group: str) -> list[tuple[str, str]]:
    """Give the hand-picked (annotation, short name) pairs of a group."""
    pairs = [entry.strip().split(">") for entry in PICKS[group].split(";")]
    return [(pair[0].strip(), pair[-1].strip().lower()) for pair in pairs]


def order_picks() -> list[tuple[str, str, str]]:
    """List (group, annotation, name): the quota of every group interleaved, then what is left over."""
    first = [[(group, *pick) for pick in read_picks(group)[:quota]] for group, quota in QUOTAS.items()]
    later = [[(group, *pick) for pick in read_picks(group)[quota:]] for group, quota in QUOTAS.items()]
    rows = [*zip_longest(*first), *zip_longest(*later)]
    return [pick for row in rows for pick in row if pick]


def clean_name(annotation: str) -> str:
    """Shorten an official annotation to plain lower-case words."""
    return annotation.lower().replace("’", "'").replace(":", "").replace("“", "").replace("”", "").strip()


def build_rows(source: list[dict[str, str]]) -> list[dict[str, str]]:
    """Make the table's rows: hand-picked concepts first, then the rest in the official order; names are unique."""
    by_name: dict[str, dict[str, str]] = {}
    for row in source:
        by_name.setdefault(row["annotation"], row)
    rows = [make_row(by_name[annotation], name, group) for group, annotation, name in order_picks()]
    codes, names = {row["hexcode"] for row in rows}, {row["name"] for row in rows}
    for row in source:
        name = clean_name(row["annotation"])
        if row["hexcode"] in codes or name in names or not is_sticker(row):
            continue
        group = OTHER_GROUPS.get(row["subgroup"]) or OTHER_GROUPS.get(row["group"], "tool")
        rows.append(make_row(row, name, group))
        names.add(name)
    return rows


def make_row(row: dict[str, str], name: str, group: str) -> dict[str, str]:
    """Trim one official row."""
    return {"hexcode": row["hexcode"], "name": name, "group": group, "tags": row["tags"] or row["openmoji_tags"]}


def main() -> None:
    """Write the table."""
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = build_rows(list(csv.DictReader(file)))
    with OUT_PATH.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["hexcode", "name", "group", "tags"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} concepts")


if __name__ == "__main__":
    main()
