"""The words of the world: syllables for names, and plain English words for facts."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Thirty-two runs of consonants that begin a name, and thirty-two that close its first syllable.
ONSETS = _words("""
    b c d f g h j k l m n p r s t v w y z br dr gr st tr bl fl gl pl th cr sk pr
""")
CODAS = _words("""
    l ll n nn r m rn ld nd rk sk lm st ss v d b lt rm t lv lb z x rv rl lk ns rs rth nth k
""")

# A company's second word, and a river's first.
FIRMS = _words("""
    Works Mills Press Traders Foundry Brothers Stores Company Sons Sisters Partners Union Guild Yard
    House Supply League Trust Depot Agency Forge Exports Imports Ventures Dealers Makers Wares
    Sellers Merchants Cousins Associates Fleet
""")
WATERS = _words("""
    White Black Little Great Upper Lower Old Red Long Cold Green North South West East Still
""")

# A species has two plain words for a name. Both lists are used in pairs: their lengths are even and equal.
QUALIFIERS = _words("""
    dusk marl reed frost amber stone cliff moss sand bell cloud thorn grey pine dune rust marsh ash
    copper bog silver brook heath night clay storm ridge salt fern snow hill dawn coral ember lake
    wood meadow barn oak willow desert island shadow velvet golden scarlet chalk smoke iron hedge
    cave field swamp pearl sun moon wind rain river spring summer winter autumn harbour
""")
ANIMALS = _words("""
    heron newt vole finch otter moth toad lark hare crab wren stoat beetle owl snail viper plover
    mouse swift lizard marten frog shrew pipit cricket eel hawk squirrel teal badger spider weasel
    quail bat fox wolf goose duck crow raven gull robin falcon pigeon rabbit deer goat pony seal
    shrimp ant bee wasp dragonfly hornet swan stork crane magpie thrush starling turtle beaver
    lobster
""")

# Values of facts. Trades begin with a consonant, since they follow "a"; foods and goods are plurals or masses.
TRADES = _words("""
    potter weaver cooper baker miller smith tailor glazier carver printer mason tanner farmer
    shepherd barber doctor lawyer teacher sailor fisher hunter painter dyer brewer butcher gardener
    clerk surgeon piper jeweller thatcher roofer
""")
INSTRUMENTS = _words("""
    flute fiddle drum harp horn lute bell pipe organ viola cello trumpet guitar piano whistle zither
    oboe banjo cymbal tuba bugle fife gong rattle
""")
GOODS = _words("""
    rope soap cheese glass paper candles boots clocks salt honey nails wool lace ink beer bricks
    barrels knives buttons maps tiles sails kettles saddles
""")
FISH = _words("""
    trout pike perch carp bream salmon sturgeon tench roach barbel char grayling
""")
FOODS = _words("""
    berries seeds worms ants roots bark nuts acorns slugs flies leaves grass pollen fruit clover
    mushrooms lichen bees shrimps nettles
""")

# Kinds of places that are named after others.
PLACES = _words("""
    School Bridge Library Garden Inn Hall Fountain Tower Theatre Chapel Museum Market
""")
