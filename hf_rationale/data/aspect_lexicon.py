"""The words of the generated aspect reviews (`aspect_reviews.py`).

Nouns belong to one aspect each. Opinion words do not: those in `SHARED` are used for every aspect, others for several,
and some change sides between aspects ("thick" praises a head of foam and blames a mouthfeel, "sharp" suits a waiter
and no price). Neutral words are disjoint from all of them.
"""

NEGATIVE, POSITIVE = 0, 1


def _words(text: str) -> list[str]:
    return text.split()


ASPECT_NOUNS = {
    "appearance": _words("appearance color head foam look lacing"),
    "aroma": _words("aroma smell nose bouquet scent fragrance"),
    "palate": _words("palate mouthfeel body carbonation texture finish"),
    "taste": _words("taste flavor aftertaste malt yeast"),
    "service": _words("service bartender waiter server host staff"),
    "price": _words("price bill cost tab charge total"),
}

# By polarity: index with NEGATIVE or POSITIVE.
SHARED = (
    _words("""bad terrible awful poor disappointing horrible dreadful mediocre unpleasant lousy weak forgettable
        dismal annoying underwhelming atrocious"""),
    _words("""great good excellent wonderful lovely superb fantastic outstanding amazing pleasant impressive
        delightful nice decent perfect terrific"""),
)

SPECIFIC = {
    "appearance": (
        _words("""murky cloudy dull drab lifeless muddy watery thin ugly dirty faded grayish sickly flat hazy soapy
            sparse dingy smudgy patchy ragged greenish warm soft light delicate"""),
        _words("""clear bright golden glowing sparkling radiant gorgeous handsome vivid brilliant creamy frothy
            pillowy inviting lustrous dark thick dense ruby amber polished elegant picturesque lively bubbly"""),
    ),
    "aroma": (
        _words("""musty skunky stale faint sour metallic sulfuric rancid pungent cardboardy vinegary moldy sweaty
            rotten chemical soapy burnt medicinal cheesy smoky sharp muted stinky harsh dark"""),
        _words("""fragrant floral fresh inviting citrusy piney spicy fruity sweet bold aromatic herbal toasty bready
            complex earthy honeyed zesty grassy perfumed roasty warm heady delicate"""),
    ),
    "palate": (
        _words("""thin watery flat harsh sticky oily heavy gritty cloying rough slick syrupy astringent chalky
            puckering scratchy limp lifeless sharp thick dense slimy numbing warm grainy spicy sweet"""),
        _words("""smooth silky creamy crisp velvety full round soft lively dry refreshing chewy plush balanced light
            clean prickly effervescent cold luscious supple bubbly sparkling fresh"""),
    ),
    "taste": (
        _words("""bland bitter sour metallic stale burnt insipid cloying salty muddled dull plasticky rancid watery
            acrid medicinal flat artificial sugary papery soapy harsh chemical spoiled dry grassy earthy"""),
        _words("""rich malty hoppy tasty delicious flavorful juicy bold complex balanced tangy nutty caramelly
            chocolatey buttery savory sweet tart sharp mellow deep zesty toasty smoky"""),
    ),
    "service": (
        _words("""rude slow cold careless surly indifferent dismissive clumsy grumpy impatient unfriendly lazy
            arrogant inattentive distracted sloppy hostile curt sour forgetful chaotic sullen dull pushy"""),
        _words("""friendly attentive quick warm polite helpful cheerful prompt knowledgeable welcoming courteous
            professional gracious kind swift efficient patient smiling sharp lively thoughtful charming
            accommodating hospitable"""),
    ),
    "price": (
        _words("""steep high expensive outrageous inflated excessive greedy rich ridiculous absurd heavy shocking
            unfair bloated painful costly exorbitant hefty stiff sharp insulting unjustified silly crazy"""),
        _words("""cheap fair low reasonable affordable generous honest modest sensible light thrifty competitive
            agreeable friendly attractive economical kind painless gentle manageable small tiny flat easy"""),
    ),
}

# Each turns the opinion word after it around, and is gold with it: "not bad".
NEGATORS = ("not", "never", "hardly")

# A sentence about an aspect is a main clause, often with a tail. N is a noun of the aspect, O an opinion word, P an
# opinion word that may be negated.
MAIN_CLAUSES = (
    "the N was O and O",
    "the N is O , O and O",
    "i found the N O and O",
    "as for the N , it is P",
    "what stands out is the O , O N",
    "it has a O , O N",
    "there is a O and O N here",
    "you get a O and O N",
    "the O , O N caught my attention",
    "i would call the N P",
)
TAILS = (
    ", with a O , O N",
    ", and the N seems P",
    ", plus a O N that stays O",
    ", and i noted a O and O N",
    ", while the N remains P",
    "; even the N is O and O",
)

# Sentences about no aspect. Words in capitals are filled from NEUTRAL, O from SHARED.
FILLERS = (
    "i had this at a PLACE last TIME",
    "my PERSON brought it over last TIME",
    "we shared it with my PERSON after dinner",
    "it came in a CONTAINER from a PLACE nearby",
    "poured from a CONTAINER into a CONTAINER",
    "my PERSON ordered NUMBER of them for the table",
    "the label mentions NUMBER kinds of GRAIN",
    "this was number NUMBER on our list that TIME",
    "i wrote these notes at a PLACE with my PERSON",
    "the PLACE is about NUMBER hours from my town",
    "my PERSON and i split the CONTAINER",
    "i waited NUMBER days before opening the CONTAINER",
    "we stopped at the PLACE on the way to see my PERSON",
    "the menu listed it under NUMBER names",
    "i have another CONTAINER for next TIME",
)
DISTRACTORS = (
    "the THING that TIME was O",
    "my PERSON told me about a O THING",
    "it was a O TIME for my PERSON",
    "we had a O THING on the way to the PLACE",
    "a O THING kept us at the PLACE",
)
NEUTRAL = {
    "PLACE": _words("bar tavern festival restaurant hotel brewery market cafe garage picnic"),
    "PERSON": _words("friend cousin neighbor boss roommate uncle coworker sister brother dad"),
    "TIME": _words("night week month summer winter weekend friday monday spring year"),
    "CONTAINER": _words("bottle can growler pint tulip snifter goblet mug"),
    "NUMBER": _words("two three four five six seven eight nine"),
    "GRAIN": _words("wheat barley rye oats"),
    "THING": _words("movie game drive song band concert train book meeting storm"),
}

# Says nothing about anything; `spurious_strength` ties its presence to the label.
SPURIOUS_TOKEN = "anyway"
