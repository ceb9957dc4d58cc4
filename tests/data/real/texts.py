"""Prompts and answers written for these tests: rows of both sorts that `grm data real` reads."""

TEA = "How long should green tea steep, and how hot should the water for the tea be?"
TEA_GOOD = (
    "Green tea should steep for about two minutes. The water for the tea should be hot, though not "
    "boiling, because boiling water makes green leaves bitter. Pour it over the leaves slowly, "
    "then take them out. Finally, taste the tea before you decide to steep it longer."
)
TEA_OTHER = (
    "Steep green tea for a while in hot water. The water should be warm, and the tea should not be "
    "dark. Some people like their tea strong. Others add honey, lemon or mint to the hot tea, and "
    "that is fine as well. However, milk does not suit green tea."
)
CROSS = "Describe a frame that is 14 inches wide and holds 250 photographs of birds."
CROSS_GOOD = (
    "The frame is 14 inches wide and made of oak. It holds 250 photographs of birds behind glass, "
    "in ten rows. Therefore, it is heavy, and two people should hang it. The birds are sorted by "
    "colour, so that the rows look like a rainbow."
)
CROSS_OTHER = (
    "It is a wide frame with many birds. The photographs show birds that fly, birds that sing and "
    "birds that swim. The frame is brown."
)
PLANTS = "Why do the leaves of my tomato plants turn yellow in summer?"
PLANTS_GOOD = (
    "The leaves of tomato plants turn yellow for several reasons:\n"
    "1. Too much water keeps air from the roots.\n"
    "2. The soil may lack nitrogen, which plants need to stay green.\n"
    "3. Old leaves near the ground fade in summer anyway.\n\n"
    "Check the soil of your tomato plants first, and water them less."
)
PLANTS_OTHER = (
    "Yellow leaves on tomato plants are common. You could water the plants more, or less. Summer "
    "is hard on tomato plants in any case, and some leaves will always be lost."
)
BRIDGE = "What keeps a suspension bridge from swaying too much in strong wind?"
BRIDGE_GOOD = (
    "A suspension bridge is kept from swaying by its stiff deck. Engineers shape the deck so that "
    "wind flows past it, and they add dampers, stays and heavy trusses. Moreover, a model of the "
    "bridge is tested in a wind tunnel. Strong wind still moves it a little, which is harmless."
)
BRIDGE_OTHER = (
    "Strong wind can move a suspension bridge. Builders use cables, and cables are strong. The "
    "bridge hangs from towers, which stand on rock, and swaying is rare."
)
BREAD = "Give me advice on baking sourdough bread with a crisp crust."
BREAD_GOOD = (
    "Bake sourdough bread in a very hot, covered pot. Steam from the dough keeps the crust soft "
    "at first, so the loaf can rise. Take the lid off after half of the baking time, and the "
    "crust turns brown and crisp. Let the bread cool on a rack, or steam from inside softens it."
)
BREAD_OTHER = (
    "Sourdough bread needs flour, water and salt. Baking takes about an hour. A crisp crust is "
    "nice, and so is butter. You should buy a good oven if yours is old."
)
CHESS = "Explain castling in chess to a child who knows how the pieces move."
CHESS_GOOD = (
    "Castling is a chess move in which the king and a rook move together. The king goes two "
    "squares toward the rook, and the rook jumps over to his other side. Neither of these pieces "
    "may have moved before, and no piece may stand between them. It keeps the king safe."
)
CHESS_OTHER = (
    "In chess there is castling. A child may find it odd at first, but pieces sometimes do odd "
    "things. The king moves, the rook moves, and then play goes on."
)


def preference(prompt, good, other, high=8.5, low=4.0):
    return {
        "prompt": prompt,
        "chosen": good,
        "rejected": other,
        "score_chosen": high,
        "score_rejected": low,
    }


PREFERENCES = [
    preference(TEA, TEA_GOOD, TEA_OTHER),
    preference(CROSS, CROSS_GOOD, CROSS_OTHER, low=7.5),
    preference(PLANTS, PLANTS_GOOD, PLANTS_OTHER),
    preference(BRIDGE, BRIDGE_GOOD, BRIDGE_OTHER, low=8.0),
    preference(BREAD, BREAD_GOOD, BREAD_OTHER),
    preference(CHESS, CHESS_GOOD, CHESS_OTHER, low=7.0),
]

APPLES = (
    "Lena picks 36 apples in the orchard and gives a third of the apples to her brother. She "
    "packs the other apples into boxes of 8. How many boxes of apples does Lena fill?"
)
APPLES_RIGHT = (
    "Lena gives 36/3 = <<36/3=12>>12 apples to her brother.\n"
    "She has 36 - 12 = <<36-12=24>>24 apples left.\n"
    "Lena fills 24 / 8 = <<24/8=3>>3 boxes.\n#### 3"
)
APPLES_WRONG = (
    "Lena has 36 - 3 = <<36-3=33>>33 apples left in the orchard.\n"
    "So she fills 33 - 8 = <<33-8=25>>25 boxes.\nA: 25"
)
TRAIN = (
    "A train travels 45 kilometres every hour. After 4 hours the train stops, and a bus takes the "
    "passengers another 27 kilometres. How many kilometres do the passengers travel?"
)
TRAIN_RIGHT = (
    "The train travels 45 * 4 = <<45*4=180>>180 kilometres.\n"
    "With the bus the passengers travel 180 + 27 = <<180+27=207>>207 kilometres.\n#### 207"
)
COINS = (
    "Omar saves 15 coins a week for 6 weeks. He spends 40 of his coins on a kite and finds 13 "
    "coins in a jacket. How many coins does Omar have?"
)
COINS_RIGHT = (
    "Omar saves 15 x 6 = <<15*6=90>>90 coins.\n"
    "After the kite Omar has 90 - 40 = <<90-40=50>>50 coins.\n"
    "With those in the jacket he has 50 + 13 = <<50+13=63>>63 coins.\n#### 63"
)

PROBLEMS = [
    {"question": APPLES, "answer": APPLES_RIGHT, "sample": {"solution": APPLES_WRONG}},
    {"question": TRAIN, "answer": TRAIN_RIGHT},
    {"question": COINS, "answer": COINS_RIGHT},
]
