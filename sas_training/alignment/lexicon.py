"""What the finder of head nouns knows about English words: lists, endings, and no more.

Whatever is in no list and has no telling ending is taken for a noun, which is right for nearly all
words of captions: there are few function words and common adjectives, and endless nouns.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS = _words(
    "a an the this that these those some any each every either neither another no all both half "
    "my your his her its our their whose which what several many few much more most various other "
    "same such multiple numerous different dozen dozens"
)
NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty "
    "hundred hundreds thousand thousands first second third fourth fifth last next"
)
PRONOUNS = _words(
    "i you he she it we they me him us them something someone somebody anything anyone nothing "
    "everything everyone itself himself herself themselves one's there here"
)
PREPOSITIONS = _words(
    "about above across after against along alongside amid among around as at atop before behind "
    "below beneath beside besides between beyond by despite down during except for from in inside "
    "into like near nearby of off on onto opposite out outside over past per through throughout to "
    "toward towards under underneath until up upon via with within without next than while when "
    "where because if but not away apart together facing"
)
PARTICLES = _words("up down out over off in")
RELATIVES = _words("that which who whom where whose")
VERBS = _words(
    "is are was were be been am has have had does do did will would could should says said reads "
    "shows sits stands hangs lies leans rests sleeps holds wears looks appears seems faces leads "
    "contains features covers plays rides walks runs eats opens sit stand hang lie lean appear"
)
ADVERBS = _words(
    "very really well not just only too so quite almost also rather fairly pretty partly still "
    "already somewhat slightly semi"
)

COLOURS = _words(
    "white black red green blue yellow brown grey gray pink purple violet beige tan cream crimson "
    "scarlet maroon turquoise teal cyan magenta navy khaki ivory burgundy lavender indigo bronze "
    "blonde blond colourful colorful multicolored multicoloured transparent translucent"
)
_SHAPES = _words(
    "big small little large huge tiny tall short long wide narrow thick thin high low deep shallow "
    "great giant enormous massive medium mini compact oversized full empty half circular "
    "rectangular oval triangular cylindrical spherical curved straight crooked bent pointed "
    "pointy rounded hollow solid flat square round curly slanted vertical horizontal diagonal "
    "parallel upper lower inner outer left right single double triple twin asymmetrical ornate"
)
_STATES = _words(
    "old new young modern ancient antique vintage contemporary traditional classic rustic fresh "
    "clean dirty dusty messy tidy neat wet dry damp warm hot cold cool bright dark dim pale light "
    "dull shiny glossy matte smooth rough soft hard firm fluffy fuzzy furry hairy woolly plush "
    "comfortable comfy cozy cosy open closed shut broken intact damaged bare blank blurry clear "
    "plain simple fancy elegant beautiful pretty nice lovely ugly cute good bad fine real fake "
    "artificial natural heavy lightweight loose tight sharp blunt steep busy crowded quiet loud "
    "cloudy sunny rainy snowy foggy grassy sandy muddy rocky leafy bushy dead alive ripe raw "
    "rusty worn torn unmade unlit lit visible invisible hidden available ready typical common "
    "usual strange odd weird unusual unique interesting rich poor cheap expensive free safe "
    "dangerous happy sad angry friendly early late sweet sour bitter spicy tasty delicious "
    "sleek slim sturdy stylish decorative abstract floral striped plaid checkered chequered "
    "dotted spotted patterned electric electrical electronic digital automatic manual portable "
    "adjustable foldable wireless residential commercial industrial public private outdoor indoor "
    "domestic medical military royal religious local foreign european american african asian "
    "chinese japanese french italian english german persian oriental victorian human male female "
    "adult wild tropical floating upright upside similar main central frontal entire whole "
    "complete partial double-sided stainless barefoot shirtless asleep awake unknown proper rear "
    "furnished unfinished finished upholstered cushioned ornamental metallic acrylic organic "
    "concentric ergonomic generic historic exotic aromatic fantastic wrought"
)
_MADE_OF = _words("wooden golden silken woolen woollen earthen ceramic leathery velvety glassy")
ADJECTIVES = COLOURS | _SHAPES | _STATES | _MADE_OF

REGIONS = _words(
    "top bottom front back side sides end edge edges corner corners middle center centre interior "
    "exterior inside outside half part parts section portion rest surface"
)
"""Parts of anything: "the top of a table" is about the table. As adjectives they come first."""

ALSO_NOUNS = REGIONS | _words(
    "orange light gold silver square round antique human adult male female plain cold half cream "
    "ceramic tan plaid bronze ivory lavender velvet double single public outdoor"
)
"""Adjectives before a noun, nouns where none follows: "an orange lamp", "an orange"."""

MATERIALS = _words(
    "wood metal glass plastic leather brick stone steel marble concrete granite paper cardboard "
    "cloth fabric cotton wool silk velvet denim rubber iron copper brass aluminum aluminium chrome "
    "tin tile wicker bamboo rattan oak pine walnut mahogany porcelain clay straw linen suede vinyl "
    "laminate plywood foam wire mesh gold silver bronze ceramic stainless-steel"
)
"""Nouns that say what another noun is made of, so that more may follow: "metal folding chair"."""

PICTURES = _words(
    "picture pictures photo photos photograph photographs image images view views shot shots "
    "snapshot close-up closeup rendering glimpse scene screenshot"
)
AMOUNTS = _words(
    "pair pairs set sets piece pieces bunch bunches stack stacks pile piles heap row rows line "
    "group groups couple lot lots number collection series variety assortment selection array "
    "cluster clump crowd herd flock kind kinds type types sort sorts style bit bits slice slices "
    "chunk lump strip strips sheet sheets plenty body bouquet batch bundle mix mixture range "
    "handful roll rolls pieces arrangement display string ton tons"
)
LOOKED_THROUGH = PICTURES | AMOUNTS | REGIONS
"""Nouns whose "of" names what is meant: "a picture of a chair", "a stack of books"."""

COMPOUNDS = frozenset(
    tuple(pair.split("-"))
    for pair in (
        "dining-table coffee-table dining-room living-room changing-table ironing-board "
        "cutting-board bulletin-board skate-board trash-can garbage-can trash-bin waste-basket "
        "shower-curtain fire-extinguisher fire-hydrant washing-machine sewing-machine night-stand "
        "ceiling-fan teddy-bear traffic-light stop-sign swimming-pool parking-lot parking-meter "
        "tennis-racket cell-phone mobile-phone book-shelf book-case hot-dog bath-tub "
        "pool-table ping-pong pepper-shaker french-fries hair-dryer remote-control potty-chair"
    ).split()
)
"""Pairs whose first word says nothing about how a thing looks; they are replaced as one."""

OF_COMPOUNDS = frozenset({("chest", "drawers")})
"""Pairs that "of" joins to one name."""

ING_NOUNS = _words(
    "ceiling ceilings building buildings painting paintings railing railings bedding clothing "
    "lighting awning awnings string strings ring rings wing wings thing things king spring swing "
    "flooring siding crossing opening landing frosting icing earring earrings carving carvings "
    "drawing drawings engraving molding moulding stuffing topping wiring piping paneling panelling "
    "shelving seating covering outbuilding sling duckling dumpling writing lettering fencing"
)
ED_NOUNS = _words("bed red shed sled weed seed reed feed breed speed hundred seaweed need steed")
IRREGULAR_PARTICIPLES = _words(
    "made built hung drawn worn torn broken woven cut lit shut seen shown taken written stuck set "
    "bent laid held kept put sewn known driven frozen eaten grown thrown spread"
)
LY_NOUNS = _words("family fly belly jelly lily doily assembly butterfly dragonfly ply trolly")

_ISH_NOUNS = _words("dish fish finish radish polish rubbish varnish english relish blemish")
_BLE_NOUNS = ("table", "cable", "stable", "syllable", "bible", "crucible", "marble", "bubble")
_FUL_NOUNS = _words("handful mouthful spoonful armful bagful cupful")


def is_adjective(word: str) -> bool:
    """Whether a lower-case word is known as, or looks like, an adjective."""
    if word in ADJECTIVES or word in ALSO_NOUNS:
        return True
    if len(word) < 6:
        return word.endswith("ish") and word not in _ISH_NOUNS and len(word) == 5
    if word.endswith("ish"):
        return word not in _ISH_NOUNS and not word.endswith("fish")
    if word.endswith("ful"):
        return word not in _FUL_NOUNS
    if word.endswith(("able", "ible")):
        return not word.endswith(_BLE_NOUNS)
    return word.endswith(("ous", "less"))
