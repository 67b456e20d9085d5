"""Short rows of plain sentences that show how verbs, pronouns and numbers agree."""

import words

# Subject, "to be" now and then, "to have" now, object form, owner form, and the form with "self".
SUBJECTS = [("I", "am", "was", "have", "me", "my", "myself"), ("you", "are", "were", "have", "you", "your", "yourself"),
            ("he", "is", "was", "has", "him", "his", "himself"), ("she", "is", "was", "has", "her", "her", "herself"),
            ("it", "is", "was", "has", "it", "its", "itself"), ("we", "are", "were", "have", "us", "our", "ourselves"),
            ("they", "are", "were", "have", "them", "their", "themselves")]
STATES = """happy sad tired hungry cold warm late ready sick well small tall strong old young here home lost safe angry
afraid alone busy kind wet dry clean quiet fast slow""".split() + words.TRAITS
VERBS = """run runs ran;eat eats ate;sing sings sang;sleep sleeps slept;play plays played;walk walks walked;
read reads read;jump jumps jumped;swim swims swam;laugh laughs laughed;cook cooks cooked;dance dances danced;
work works worked;wait waits waited;smile smiles smiled;draw draws drew;help helps helped;fall falls fell;
cry cries cried;go goes went;come comes came;know knows knew;stop stops stopped""".replace("\n", "")
VERBS = [tuple(verb.split()) for verb in VERBS.split(";")]
NOUNS = words.ANIMALS[:]
NOUNS = [(word, {"fox": "foxes", "mouse": "mice", "pony": "ponies", "puppy": "puppies", "monkey": "monkeys",
                 "deer": "deer"}.get(word, word + "s")) for word in NOUNS]
NOUNS += [(word, word + "s") for word in "ball boat car book tree house flower apple cup boy girl friend door".split()]
NOUNS += [("child", "children"), ("man", "men"), ("woman", "women"), ("box", "boxes"), ("leaf", "leaves"),
          ("foot", "feet"), ("baby", "babies")]
TIMES = ["every day", "at night", "in the morning", "at home", "now", "with a friend", "in the garden", "all day"]
PAST = ["yesterday", "last night", "this morning", "a long time ago", "last week"]


def article(word):
    """The word with "a" or "an" before it."""
    return ("an " if word[0] in "aeiou" else "a ") + word


def about_subject(chance, subject, state):
    """A sentence about one person."""
    word, be, was, have, them, their, themself = subject
    verb, third, past = chance.choice(VERBS)
    noun, many = chance.choice(NOUNS)
    now = third if be == "is" else verb
    do = "does" if be == "is" else "do"
    return chance.choice([
        f"{word} {be} {state}.", f"{word} {be} {state}.", f"{word} {be} {state}.", f"{word} {be} not {state}.",
        f"{word} {was} {state} {chance.choice(PAST)}.", f"{word} {was} not {state}.", f"{word} {have} {article(noun)}.",
        f"{word} {have} two {many}.", f"{word} {now} {chance.choice(TIMES)}.", f"{word} {past} {chance.choice(PAST)}.",
        f"{word} {do} not {verb}.", f"{word} can {verb}.", f"{word} will {verb}.", f"{word} {have} {their} {noun}.",
        f"{word} saw {themself}.", f"{word} {was} very {state}.", f"{word} helped {themself}.",
        f"{chance.choice(words.GIRLS + words.BOYS)} helped {them}.", f"{be} {word} {state}?", f"{do} {word} {verb}?",
        f"the {noun} likes {them}.", f"this is {their} {noun}.", f"these are {their} {many}.",
    ])


def about_things(chance, noun, many, state):
    """A sentence about one thing or about many."""
    verb, third, past = chance.choice(VERBS)
    name = chance.choice(words.GIRLS + words.BOYS)
    herself = "herself" if name in words.GIRLS else "himself"
    return chance.choice([
        f"the {noun} is {state}.", f"the {many} are {state}.", f"the {noun} was {state}.", f"the {many} were {state}.",
        f"the {noun} has {article(chance.choice(NOUNS)[0])}.", f"the {many} have {article(chance.choice(NOUNS)[0])}.",
        f"the {noun} {third}.", f"the {many} {verb}.", f"this {noun} is {state}.", f"these {many} are {state}.",
        f"that {noun} {third}.", f"those {many} {verb}.", f"there is {article(noun)}.", f"there are two {many}.",
        f"there were many {many}.", f"one {noun} {past} {chance.choice(PAST)}.", f"{name} has {article(noun)}.",
        f"{name} is {state}.", f"{name} saw {herself}.", f"{name} and {chance.choice(words.PET_NAMES)} are {state}.",
        f"the {noun} and the {chance.choice(NOUNS)[0]} are {state}.", f"{name} {third} {chance.choice(TIMES)}.",
    ])


def lesson(chance):
    """Several sentences: one state in all persons, one person in many forms, or one thing and many."""
    state, sort = chance.choice(STATES), chance.randrange(3)
    if sort == 0:
        order = chance.sample(SUBJECTS, chance.randint(3, 7))
        form = chance.choice([1, 1, 1, 2])
        lines = [f"{subject[0]} {subject[form]} {state}." for subject in order]
    elif sort == 1:
        subject = chance.choice(SUBJECTS)
        lines = [about_subject(chance, subject, chance.choice(STATES)) for _ in range(chance.randint(3, 7))]
    else:
        lines = [about_things(chance, *chance.choice(NOUNS), chance.choice(STATES))
                 for _ in range(chance.randint(3, 7))]
    return " ".join(line[0].upper() + line[1:] for line in lines)
