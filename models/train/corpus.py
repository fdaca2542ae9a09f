"""The generated training corpus of the miniature models.

A document is a short run of unrelated items: sentences in which two people meet and something passes between them
(IOI-like), sentences in which one of two people is named again (anti-repeat-like), repeated sequences, lists, and filler.
Everything the program's tasks test with is held out, and `check_held_out` proves it on the text itself:

* no item, of whatever kind, holds two names that a test prompt pairs, so no pair of a test prompt ever shared a sentence.
  Test pairs are one in four of those across a task's two lists, spread evenly: every name meets almost every other here,
  and no grouping of names gives a test pair away;
* no test template occurs, nor either of its halves (the clause that introduces the two people, the clause that follows
  the repeated name), whatever the names and fillers;
* every word of the test templates and every filler does occur, in other constructions, so that its embedding is trained.
"""

from __future__ import annotations

import itertools
import random
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

REPOSITORY = Path(__file__).resolve().parents[2]
TASK_FILES = {
    "ioi": REPOSITORY / "crates/circuits/tasks/ioi.toml",
    "anti_repeat": REPOSITORY / "crates/circuits/tasks/anti_repeat.toml",
}

# Names of the published prompt sets that are in neither list of the tasks. They may be paired with anyone.
OTHER_NAMES = (
    "Raj Liam Mia Omar Lina Chen Sara Ivy Alex Noah Zoe Carol Dave Erin Frank Grace Heidi Ivan Judy Mallory Oscar"
).split()


@dataclass(frozen=True)
class Task:
    """A task of the program, as its TOML file states it."""

    name: str
    orders: str
    pool: tuple[str, ...]
    partner_pool: tuple[str, ...]
    pair_step: int
    fillers: dict[str, tuple[str, ...]]
    templates: dict[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """The candidate answers."""
        return self.pool + self.partner_pool

    @property
    def pairs(self) -> set[frozenset[str]]:
        """The pairs of names in test prompts."""
        return {
            frozenset((a, b))
            for (i, a), (j, b) in itertools.product(enumerate(self.pool), enumerate(self.partner_pool))
            if (i + j) % self.pair_step == 0
        }


def load_task(path: Path) -> Task:
    """Reads one task file."""
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    return Task(
        name=data["name"],
        orders=data["orders"],
        pool=tuple(data["names"]["pool"]),
        partner_pool=tuple(data["names"]["partner_pool"]),
        pair_step=data["names"]["pair_step"],
        fillers={key: tuple(words) for key, words in data["fillers"].items()},
        templates={template["id"]: template["text"] for template in data["templates"]},
    )


def load_tasks() -> list[Task]:
    """Reads the tasks the program tests with."""
    return [load_task(path) for path in TASK_FILES.values()]


# ---------------------------------------------------------------------------------------------------------------------
# Words. `{place}`, `{object}` and `{day}` also hold the fillers of the tasks.

WORDS: dict[str, list[str]] = {
    "place": "store park school office beach market garden station library museum kitchen river bridge church hotel "
    "theatre farm bakery harbour tower".split(),
    "object": "book drink ring letter ball key gift ticket coat map lamp apple chair bottle picture basket candle "
    "hat cup stone".split(),
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
    "adj": "small old red blue heavy new broken strange warm quiet long late early green little dark".split(),
    "role": "teacher doctor farmer driver baker child neighbour king guard singer stranger judge".split(),
    "animal": "dog cat horse bird goat rabbit lamb hen".split(),
    "thing": "weather road sky train clock door window house table water music night".split(),
    "number": "one two three four five six seven eight nine ten".split(),
    "adverb": "quietly slowly often always never soon quickly gladly rarely still also finally".split(),
    "time": ["in the morning", "in the evening", "after lunch", "before dinner", "last night", "last year", "at noon",
             "for an hour", "at the party", "on the way home", "in the end", "last week"],
    "mood": "tired happy angry hungry busy lost calm ready sad proud".split(),
    "relation": "friend cousin sister brother partner student".split(),
}

# How an IOI-like sentence brings in its two people.
IOI_OPENINGS = """
When {A} and {B} came back from the {place},
When {A} and {B} reached the {place},
When {A} and {B} stood in front of the {place},
When {A} met {B} behind the {place},
When {A} and {B} were tired of the {place},
After {A} and {B} walked through the {place},
After {A} and {B} cleaned the {place},
After {A} had a long talk with {B} at the {place},
After a long day {A} and {B} closed the {place} and
After the party {A} and {B} stayed near the {place}, and
While {A} and {B} waited outside the {place},
While {A} was with {B} in the {place},
While {A} and {B} were looking at the {adj} {object},
Because {A} and {B} lived near the {place},
Because {A} knew {B} from the {place},
Because the {place} was closed, {A} and {B} went home, and
Once {A} and {B} had opened the {adj} {object},
Once {A} took {B} to the {place},
Then {A} and {B} argued about the {object}, and
Then, {time}, {A} and {B} were alone, and
Then {A} went to the {place} with {B}, and
Today {A} and {B} worked late.
Today {A} saw {B} at the {place}.
Today, before lunch, {A} and {B} had an argument.
Last {day} {A} and {B} drove to the {place}.
Last week {A} and {B} decided to leave the {place}.
On {day} {A} and {B} had a {adj} {object}.
On {day} {A} and {B} went out for lunch.
In the {place} {A} and {B} found {number} {animal}s, and
In the evening {A} and {B} sat together.
At the {place} {A} and {B} played with the {animal}.
At noon {A} and {B} were still working, but
Near the {place} {A} and {B} lost a {object}, so
The two neighbours {A} and {B} shared a {object}.
The friends {A} and {B} knew the {role} of the {place}.
The {role} told {A} and {B} about the {place}, and
The {adj} {object} belonged to {A} and {B}.
The argument between {A} and {B} was long.
Between {A} and {B} there was a {adj} {object}.
There were {A} and {B} at the {place}, and
There was a {adj} {object} for {A} and {B}.
Outside the {place} {A} and {B} arrived together.
Outside, {A} waited for {B}.
Before {A} and {B} left for the {place},
Both {A} and {B} wanted the {object}, but
Since {A} and {B} were {mood},
As soon as {A} and {B} got to the {place},
If {A} and {B} visit the {place},
Whenever {A} and {B} travelled with the {animal},
{A} and {B} bought a {adj} {object} at the {place}.
{A} and {B} were sitting in the {place}, and
{A} went to the {place} with {B}.
{A} has a {relation}, {B}.
{A} called {B} about the {object}, and
{A} visited {B} at the {place}, and
""".strip().splitlines()

# How something passes from the repeated person to the other one.
IOI_ENDINGS = """
{R} gave the {object} to {O}
{R} gave a {adj} {object} to {O}
{R} {adverb} gave a {object} to {O}
{R} gave {number} {object}s to {O}
{R} had to give it to {O}
{R} took the {object} and gave it to {O}
{R} handed the {object} to {O}
{R} handed it to {O}
{R} {adverb} handed a {adj} {object} to {O}
{R} offered the {adj} {object} to {O}
{R} wanted to offer a {object} to {O}
{R} passed the {object} to {O}
{R} {adverb} passed it to {O}
{R} sent the {object} to {O}
{R} {adverb} sent a {object} to {O}
{R} bought the {object} for {O}
{R} bought {number} {object}s for {O}
{R} wanted to buy a {object} for {O}
{R} showed the {object} to {O}
{R} {adverb} showed a {adj} {object} to {O}
{R} lent the {object} to {O}
{R} lent a {adj} {object} to {O}
{R} brought the {object} for {O}
{R} {adverb} brought a {object} for {O}
{R} returned a {object} to {O}
{R} threw a {object} to {O}
{R} mailed a {object} to {O}
{R} carried a {object} to {O}
{R} sold a {object} to {O}
{R} served a {object} to {O}
{R} read a {object} to {O}
{R} made a {object} for {O}
{R} found a {object} for {O}
{R} kept a {object} for {O}
{R} painted a {object} for {O}
{R} left a {object} for {O}
{R} borrowed a {object} from {O}
{R} took a {object} from {O}
{R} got a {object} from {O}
{R} told the story to {O}
{R} wrote a letter to {O}
{R} said hello to {O}
{R} decided to give the {object} to {O}
{R} promised the {object} to {O}
{R}, who was {mood}, gave the {object} to {O}
the {object} of {R} was given to {O}
the {role} saw that {R} gave the {object} to {O}
with a {object} in hand {R} turned to {O}
""".strip().splitlines()

# Between the halves, now and then: nothing that names a person.
ASIDES = """
The {thing} was {adj}.
It was {day}.
The {animal} was {mood}.
There was no {object} at the {place}.
Nobody knew why.
The {role} left the {place}.
It took an hour.
Then it was {adj} outside.
""".strip().splitlines()

# Three people; the one still missing is the answer.
IOI_TRIPLES = """
When {A}, {B} and {C} reached the {place}, {R} and {S} gave the {object} to {O}
After {A}, {B} and {C} had dinner, {R} and {S} sent a {adj} {object} to {O}
Today {A}, {B} and {C} were at home. {R} and {S} cooked for {O}
Once {A} and {B} met {C} at the {place}. {R} and {S} showed the {object} to {O}
The friends {A}, {B} and {C} had a {object}. {R} took it, {S} held it, and it went to {O}
While {A}, {B} and {C} waited outside the {place}, {R} and {S} sang for {O}
""".strip().splitlines()

# Anti-repeat-like: two people meet ...
ANTI_MEETINGS = """
One day {A} met {B}.
In the {place} {A} met {B}.
{A} met {B} at the {place}.
{A} met {B} on {day}.
{A} met {B}.
When it was late {A} saw {B}.
On {day} {A} saw {B}.
{A} saw {B} in the {place}.
In the evening {A} called {B}.
Last {day} {A} called {B}.
{A} called {B} about the {object}.
Before dinner {A} visited {B}.
In the morning {A} visited {B}.
{A} visited {B} with a {object}.
At the {place} {A} passed {B}.
On {day} {A} passed {B} near the {place}.
On the way home {A} found {B}.
{A} found {B} behind the {place}.
At noon {A} wrote to {B}.
{A} wrote to {B} in the morning.
On {day} {A} helped {B}.
{A} helped {B} with the {object}.
At the party {A} knew {B}.
At the {place} {A} ran into {B}.
Near the {place} {A} waited for {B}.
Last year {A} worked with {B}.
Last night {A} argued with {B}.
After lunch {A} looked for {B}.
For an hour {A} sat near {B}.
For a week {A} lived with {B}.
In the end {A} found out about {B}.
Today {A} joined {B}.
Today {A} is the {relation} of {B}.
Now {A} knows {B}.
Then {A} came with {B}.
Once {A} had a {relation}, {B}.
Later {A} wanted to meet {B}.
The {role} told {A} about {B}.
The {adj} {role} saw {A} and {B}.
The {animal} of {A} liked {B}.
There {A} lost {B}.
To the {place} {A} followed {B}.
Because of the {thing} {A} stayed with {B}.
While the {thing} was {adj}, {A} thought of {B}.
{A} and {B} are in the {place}.
{A}, a {role}, invited {B}.
""".strip().splitlines()

# ... and one of them is named again.
ANTI_FOLLOW_UPS = """
{R} {adverb} talked to {O}
Soon {R} had talked to {O}
{R} wanted to talk to {O}
{R} {adverb} waved to {O}
From the {place} {R} was able to wave to {O}
Later {R} {adverb} spoke with {O}
{R} hoped to speak with {O}
{R} {adverb} listened to {O}
For a week {R} had to listen to {O}
{R} {adverb} smiled at {O}
With a {object} in hand {R} had smiled at {O}
{R} {adverb} danced with {O}
Then {R} wanted to dance with {O}
Now {R} wants to help {O}
Now {R} wants to meet {O}
{R} {adverb} wants to see {O}
In the evening {R} went to see {O}
In the end {R} {adverb} thanked {O}
Now {R} has to thank {O}
{R} laughed with {O}
{R} shouted at {O}
Then {R} walked with {O}
For an hour {R} played with {O}
{R} asked {O}
Later {R} asked {O}
{R} answered {O}
In the end {R} answered {O}
{R} hugged {O}
Then {R} told the story to {O}
For an hour {R} looked at {O}
{R} pointed at {O}
Later {R} ate with {O}
{R} stayed with {O}
Now {R} cares for {O}
{R} thought of {O}
Then {R} sang with {O}
{R} learned from {O}
Later {R} forgave {O}
{R} believed {O}
In the {place} {R} sat next to {O}
{R} was {mood} and left without {O}
{R} cooked for {O}
{R} always sees {O}
{R} is as {adj} as {O}
{R} was angry with {O}
""".strip().splitlines()

# Sentences about at most one person: names may repeat here, and many continuations are not names.
FILLERS = """
{A} likes the {place}. {A} has a {adj} {object}.
{A} was {mood}. {A} went to the {place}.
{A} gave the {object} to the {role}.
{A} gave a {adj} {object} to the {animal}.
{A} {adverb} talked to the {role}.
Then {A} and the {role} left the {place} together.
The {role} sent a {object} to the {adj} {role}.
They talked to the {role}, then they waved to the {animal}.
They spoke with {A} about the {thing}.
They were working at the {place}.
They had lunch at the {place}. They arrived late.
They decided to visit the {place}. There they bought a {object} for the {role}.
They smiled at the {animal} and listened to the {thing}.
They danced with the {role}. They thanked the {role}.
We found a {object} near the {place}.
We went to the {place} and left the {object} there.
The {adj} {thing} was near the {place}.
The {role} has {number} {animal}s and a {adj} {object}.
The two friends had a long argument.
The {object} is {adj}, the {thing} is {adj}.
On {day} the {place} is closed.
Last {day} the {thing} was {adj}.
Last night the {animal} was {mood}.
Today the {role} bought {number} {object}s.
It is {adj} in the {place}.
In the morning the {role} opened the {place}.
After lunch the {role} was {mood}.
At the party there was music.
Once there was a {animal} at the {place}.
Because it was late, the {role} went home.
Because the {thing} was {adj}, nobody arrived.
While the {animal} was {mood}, the {role} helped.
Near the {place} there was a {adj} {place}.
Outside, the {thing} was {adj}.
Now the {role} wants to see the {place}.
In the end the {role} found it.
For an hour the {role} looked at the {object}.
Later the {animal} passed the {place}.
Then, {time}, the {role} wrote a letter.
To see the {place} is to see the {thing}.
"Where is {A}?" asked the {role}. "{A} is at the {place}."
{A} and the {animal} met near the {place}. {A} offered it a {object}.
Friends of {A} met {A} at the {place}.
While working, the {role} passed a {object} to the {role} between the {adj} {thing} and the {adj} {thing}.
""".strip().splitlines()

LIST_HEADS = ["The guests are", "Names on the list:", "In the room were", "They called", "The {role} knows",
              "At the {place}:", "People:"]

_FIELD = re.compile(r"\{(\w+)\}")


# How many documents are stories about a few people.
STORY_SHARE = 0.75

# ---------------------------------------------------------------------------------------------------------------------
# The generator.


class Generator:
    """Draws documents. The same seed gives the same documents."""

    def __init__(self, tasks: list[Task], seed: int, words_per_document: int) -> None:
        self.random = random.Random(seed)
        self.everyone = sorted({n for t in tasks for n in t.names}) + OTHER_NAMES
        self.test_pairs = set().union(*(t.pairs for t in tasks))
        self.words_per_document = words_per_document
        self.held_out = held_out_patterns(tasks)
        self.all_words = sorted({w for ws in WORDS.values() for phrase in ws for w in phrase.split()})
        self.kinds: list[Callable[[], str]] = [self.ioi, self.anti_repeat, self.repeats, self.lists, self.filler]
        self.kind_weights = [0.32, 0.27, 0.16, 0.07, 0.18]
        self.people: list[str] = []  # whom the item being written may name

    def document(self) -> list[str]:
        """One document: items until it is long enough, each with its own spacing, to be joined by nothing.

        No two of an item's names are a test pair. A document may be a story, in which a few people come again: that is
        what first teaches a model to look back for names.
        """
        rng = self.random
        cast = self.strangers(rng.choice([2, 2, 3, 4])) if rng.random() < STORY_SHARE else None
        gap = "  " if rng.random() < 0.06 else " "
        items: list[str] = []
        n_words = 0
        while n_words < self.words_per_document:
            self.people = cast or self.strangers(8)
            item = rng.choices(self.kinds, self.kind_weights)[0]()
            if any(pattern.search(item) for pattern in self.held_out):
                continue
            # A name is one token only behind a space, so a document that opens with one opens with the space.
            opens_with_name = item.split(" ")[0].strip(".,") in self.people
            items.append((gap if items else " " * opens_with_name) + item.replace(". ", "." + gap))
            n_words += item.count(" ") + 1
        return items

    def strangers(self, n: int) -> list[str]:
        """`n` different people, no two of which are a test pair."""
        chosen: list[str] = []
        while len(chosen) < n:
            name = self.random.choice(self.everyone)
            if name not in chosen and not any(frozenset((name, other)) in self.test_pairs for other in chosen):
                chosen.append(name)
        return chosen

    def names(self, n: int) -> list[str]:
        """`n` different people whom this item may name."""
        return self.random.sample(self.people, n)

    def fill(self, template: str, **people: str) -> str:
        """Puts people and freshly drawn words into a template."""

        def draw(match: re.Match[str]) -> str:
            key = match.group(1)
            return people[key] if key in people else self.random.choice(WORDS[key])

        return re.sub(r"\ba (?=apple|early|old)", "an ", _FIELD.sub(draw, template))

    def ioi(self) -> str:
        """Two people (or three), one (or two) again, then the one who is missing."""
        rng = self.random
        if len(self.people) > 2 and rng.random() < 0.12:
            a, b, c = self.names(3)
            r, s, o = rng.sample([a, b, c], 3)
            return self.fill(rng.choice(IOI_TRIPLES), A=a, B=b, C=c, R=r, S=s, O=o) + "."
        a, b = self.names(2)
        r, o = rng.sample([a, b], 2)
        people = {"A": a, "B": b, "R": r, "O": o}
        opening = self.fill(rng.choice(IOI_OPENINGS), **people)
        ending = rng.choice(IOI_ENDINGS)
        if rng.random() < 0.08:
            ending = ending.replace("{O}", "the {role}")
        ending = self.fill(ending, **people)
        if opening.endswith("."):
            if rng.random() < 0.15:
                opening += " " + self.fill(rng.choice(ASIDES))
            draw = rng.random()
            if draw < 0.3:
                ending = rng.choice(["There", "Then", "Later", "Outside,", "Today", "So"]) + " " + ending
            elif ending[0].islower():
                ending = ending[0].upper() + ending[1:]
        tail = f" {self.fill(rng.choice(WORDS['time']))}" if rng.random() < 0.15 else ""
        return f"{opening} {ending}{tail}."

    def anti_repeat(self) -> str:
        """Two people, one of them again, then the other."""
        rng = self.random
        a, b = self.names(2)
        r, o = rng.sample([a, b], 2)
        people = {"A": a, "B": b, "R": r, "O": o}
        text = self.fill(rng.choice(ANTI_MEETINGS), **people)
        if rng.random() < 0.12:
            text += " " + self.fill(rng.choice(ASIDES))
        follow_up = rng.choice(ANTI_FOLLOW_UPS)
        if rng.random() < 0.06:
            follow_up = follow_up.replace("{O}", "the {role}")
        text += " " + self.fill(follow_up, **people) + "."
        if rng.random() < 0.2:
            r, o = rng.sample([a, b], 2)
            text += " " + self.fill(rng.choice(ANTI_FOLLOW_UPS), A=a, B=b, R=r, O=o) + "."
        return text

    def repeats(self) -> str:
        """A random sequence of words or names, again and again."""
        rng = self.random
        words = rng.sample(self.all_words, rng.randint(3, 7))
        draw = rng.random()
        if draw < 0.5:
            words = self.names(min(len(self.people), rng.randint(2, 5)))
        elif draw < 0.8:
            words += self.names(2)
            rng.shuffle(words)
        gap = rng.choice([" ", ", ", " and ", " "])
        return (rng.choice([" ; ", ". ", " / ", " "])).join([gap.join(words)] * rng.randint(2, 3)) + "."

    def lists(self) -> str:
        """People in a row, or a known sequence."""
        rng = self.random
        if rng.random() < 0.6:
            names = self.names(min(len(self.people), rng.randint(2, 6)))
            return f"{self.fill(rng.choice(LIST_HEADS))} {', '.join(names[:-1])} and {names[-1]}."
        words = rng.choice([WORDS["day"], WORDS["number"]])
        start = rng.randrange(len(words) - 2)
        return ", ".join(words[start : start + rng.randint(3, 6)]) + "."

    def filler(self) -> str:
        """Plain sentences."""
        return self.fill(self.random.choice(FILLERS), A=self.names(1)[0])


def generate(n_documents: int, seed: int, words_per_document: int) -> list[list[str]]:
    """`n_documents` documents, each a list of items that come to `words_per_document` words or more."""
    generator = Generator(load_tasks(), seed, words_per_document)
    return [generator.document() for _ in range(n_documents)]


# ---------------------------------------------------------------------------------------------------------------------
# What is held out, and the proof.


def held_out_patterns(tasks: list[Task]) -> list[re.Pattern[str]]:
    """Both halves of every test template, for any names and fillers; the whole template needs both."""
    names = "|".join(sorted({n for t in tasks for n in t.names} | set(OTHER_NAMES), key=lambda n: (-len(n), n)))
    person = rf"(?:{names})"

    def pattern(text: str) -> re.Pattern[str]:
        parts = _FIELD.split(text)  # literal, field, literal, field, ...
        out = "".join(
            re.escape(part).replace(r"\ ", r"\s+") if i % 2 == 0
            else (person if part in ("first", "second", "repeated") else r"\w+")
            for i, part in enumerate(parts)
        )
        return re.compile(out)

    found = []
    for task in tasks:
        for text in task.templates.values():
            before, after = text.split("{repeated}")
            found.append(pattern(before[: before.rindex("}") + 1]))
            found.append(pattern("{repeated}" + after))
    return found


def prompt_words(tasks: list[Task]) -> list[str]:
    """Every word of the test prompts but the names: with a leading space, or without one where it opens a prompt."""
    found = set()
    for task in tasks:
        for text in task.templates.values():
            found.update(match.group() for match in re.finditer(r" ?\b[A-Za-z]+", _FIELD.sub("", text)))
        found.update(f" {word}" for words in task.fillers.values() for word in words)
    return sorted(found)


def check_held_out(documents: list[list[str]], tasks: list[Task]) -> dict[str, int]:
    """Proves on the text that nothing of the test prompts is in the corpus. Raises `ValueError` where it is.

    Names are looked for item by item, clauses in the whole document. Returns counts for the record: documents, words, and
    how many different pairs of candidate names share an item.
    """
    patterns = held_out_patterns(tasks)
    word = re.compile(r"\w+|[^\w\s]")
    counts: Counter[str] = Counter()
    pairs: set[frozenset[str]] = set()
    for number, items in enumerate(documents):
        for item in items:
            words = word.findall(item)
            counts.update(words)
            present = set(words)
            for task in tasks:
                together = {frozenset(p) for p in itertools.combinations(sorted(present.intersection(task.names)), 2)}
                if broken := together & task.pairs:
                    raise ValueError(f"document {number} joins {sorted(next(iter(broken)))}, a test pair: {item!r}")
                pairs.update(together)
        text = "".join(items)
        for pattern in patterns:
            if match := pattern.search(text):
                raise ValueError(f"document {number} holds a held-out clause: {match.group()!r}")
    needed = {entry.strip() for entry in prompt_words(tasks)} | {n for t in tasks for n in t.names} | {",", "."}
    for entry in sorted(needed):
        if counts[entry] < 50:
            raise ValueError(f"the word {entry!r} of the test prompts occurs only {counts[entry]} times")
    return {"documents": len(documents), "words": sum(counts.values()), "name_pairs_seen": len(pairs)}


if __name__ == "__main__":
    sample = generate(1000, seed=0, words_per_document=60) + generate(4000, seed=1, words_per_document=1)
    print(check_held_out(sample, load_tasks()))
    print("\n".join("".join(items) for items in sample[:12]))
