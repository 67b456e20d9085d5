"""Writes small stories for children from a grammar of our own: seeded, endless, and free of any other text.

    python stories.py --seed 7 --count 5

One story keeps its names, pronouns and things from the first sentence to the last. About one text in ten is a row of
plain sentences instead, which shows the forms of "to be", "to have" and common verbs in all persons.
"""

import argparse
import random
import re

import grammar
import words
from plots import ENDINGS, HABITS, LONELY, OPENINGS, PLOTS

PRONOUNS = {"f": ("she", "her", "her", "herself"), "m": ("he", "him", "his", "himself")}
CHOICE = re.compile(r"\[([^\[\]]*)\]")
SENTENCE_START = re.compile(r'(^"?|[.!?] "?|[.]" |[.!?]" "|, ")([a-z])')


def person(chance, taken=None):
    """A child or an animal: name, kind, and pronouns."""
    while True:
        sort = chance.choice(["girl", "boy", "girl", "boy", "animal"])
        gender = {"girl": "f", "boy": "m"}.get(sort) or chance.choice("fm")
        names = {"girl": words.GIRLS, "boy": words.BOYS, "animal": words.PET_NAMES}[sort]
        name = chance.choice(names)
        if name != taken:
            return name, chance.choice(words.ANIMALS) if sort == "animal" else sort, PRONOUNS[gender]


def cast(chance, lesson):
    """Draws everything that one story needs to keep the same."""
    name, kind, pronouns = person(chance)
    friend, _, friend_pronouns = person(chance, name)
    parent, parent_he = chance.choice([("mom", "she"), ("dad", "he"), ("mother", "she"), ("father", "he"),
                                       ("grandma", "she"), ("grandpa", "he"), ("aunt", "she"), ("uncle", "he")])
    place, where = chance.choice(words.PLACES)
    baked, baked_it = chance.choice(words.BAKED)
    contest, skill, skilled = chance.choice(words.CONTESTS)
    found, found_what = chance.choice(words.FOUND)
    warn, warn_did, warn_end = chance.choice(words.WARNINGS)
    fear, fear_when, fear_help, fear_truth = chance.choice(words.FEARS)
    hiding, hiding2 = chance.sample(words.HIDING, 2)
    first, second, third = chance.sample(words.FIRST_PART, 3)
    built = chance.choice(words.BUILT)
    return {
        "H": name, "kind": kind, "he": pronouns[0], "him": pronouns[1], "his": pronouns[2], "himself": pronouns[3],
        "F": friend, "fhe": friend_pronouns[0], "fhim": friend_pronouns[1], "fhis": friend_pronouns[2],
        "parent": parent, "phe": parent_he, "place": place, "in_place": f"{where} {place}",
        "home": chance.choice(words.HOMES),
        "home_town": "the " + chance.choice(["village", "town", "forest", "valley"]),
        "toy": chance.choice(words.TOYS), "outside": chance.choice(words.OUTSIDE),
        "colour": chance.choice(words.COLOURS), "look": chance.choice(words.COLOURS + words.LOOKS),
        "trait": chance.choice(words.TRAITS), "food": chance.choice(words.FOODS), "game": chance.choice(words.GAMES),
        "hiding": hiding, "hiding2": hiding2, "good": chance.choice(words.GOOD), "bad": chance.choice(words.BAD),
        "small": chance.choice([word for word in words.SMALL_ANIMALS if word != kind]),
        "animal": chance.choice([word for word in words.ANIMALS if word != kind]), "baked": baked, "baked_it": baked_it,
        "baked_the": re.sub(r"^(a|some) ", "the ", baked), "baked_was": "were" if baked_it == "them" else "was",
        "first": first, "second": second, "third": third, "third_was": "were" if third[-1] == "s" else "was",
        "plant": chance.choice(words.PLANTS),
        "broken": chance.choice(words.BREAKABLE), "gift": chance.choice(words.GIFTS), "contest": contest,
        "skill": skill, "skilled": skilled, "found": found, "found_what": found_what, "built": built,
        "built_the": re.sub(r"^a ", "the ", built), "warn": warn, "warn_did": warn_did, "warn_end": warn_end,
        "fear": fear, "fear_when": fear_when, "fear_help": fear_help, "fear_truth": fear_truth,
        "lesson": chance.choice(words.LESSONS[lesson]),
    }


def article(word):
    """The article that stands before a word."""
    return "an " if word[0] in "aeiou" or word == "honest" else "a "


def tell(chance, template, things):
    """Turns one template into sentences."""
    while CHOICE.search(template):
        template = CHOICE.sub(lambda found: chance.choice(found.group(1).split("|")), template)
    text = template.format(**things).format(**things)
    text = re.sub(r"\ba(?:\(n\))? (?=(\w+))", lambda found: article(found.group(1)), text)
    text = re.sub(r"\bi\b", "I", text)
    text = re.sub(r"\s+(?=[.,!?])", "", re.sub(r"\s+", " ", text)).strip()
    return SENTENCE_START.sub(lambda found: found.group(1) + found.group(2).upper(), text)


def story(chance):
    """One story: an opening, perhaps a habit, a plot and an ending."""
    plot, lesson = chance.choice(PLOTS)
    things = cast(chance, lesson)
    habit = "" if plot is LONELY else chance.choice(HABITS)
    middle = [part.lstrip("?") for part in plot if part[0] != "?" or chance.random() < 0.4]
    templates = [chance.choice(OPENINGS), habit, *middle, chance.choice(ENDINGS)]
    return " ".join(part for part in (tell(chance, template, things) for template in templates) if part)


def stories(seed, count):
    """A list of texts; the same seed and count give the same texts."""
    chance = random.Random(seed)
    return [grammar.lesson(chance) if chance.random() < 0.1 else story(chance) for _ in range(count)]


def main():
    """Prints texts, one a line."""
    reader = argparse.ArgumentParser(description=__doc__)
    reader.add_argument("--seed", type=int, default=7)
    reader.add_argument("--count", type=int, default=5)
    choice = reader.parse_args()
    print("\n".join(stories(choice.seed, choice.count)))


if __name__ == "__main__":
    main()
