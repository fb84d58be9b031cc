"""What the house ear understands: everyday English sentences of a small grammar, and the words they are made of."""

from __future__ import annotations

import hashlib
import random
import re
from functools import cache

HELD_OUT = 20  # one sentence in so many is never trained on, chosen by its words
LOOSE = 0.15  # share of sentences whose words stand in no order: they keep the ear from guessing
_SLOT = re.compile(r"<(\w+)>")

# A rule's alternatives are parted by bars or stand in a list; <name> is another rule's turn.
RULES: dict[str, list[str] | str] = {
    "sentence": [
        *["<question>?"] * 6,
        *["<statement>."] * 8,
        *["<request>."] * 4,
        *["<request> please."] * 2,
        *["<greeting>."] * 2,
        "<answer>, <short>.",
        "<greeting>, <short>.",
        "<greeting>, <question>?",
        "<statement> and <short>.",
        "<short>, but <short>.",
    ],
    "greeting": "hello|hi|good morning|good evening|good afternoon|hello <person>|good morning <person>|good night|"
    "hello world|hello everyone|welcome|welcome to the <room>|welcome back <person>|goodbye <person>|see you <when>|"
    "thank you very much|thanks a lot|nice to meet you|excuse me|I am sorry|have a nice <day_part>|"
    "happy birthday <person>",
    "answer": "yes|no|of course|maybe|all right|sure|I think so|I do not know|not today|yes please|no thank you|okay",
    "person": "<name>|<name>|my friend|my <relative>|doctor|everybody",
    "name": "Anna|Ben|Clara|David|Emma|Frank|Grace|Henry|Julia|Lucy|Martin|Nora|Oscar|Paul|Sarah|Thomas|Alice|Peter",
    "relative": "mother|father|brother|sister|son|daughter|wife|husband|uncle|aunt|family|neighbour|teacher|boss",
    "who": "I|you|we|they",
    "one": "he|she|<name>|my <relative>|the <job>|your <relative>",
    "job": "doctor|driver|waiter|nurse|teacher|farmer|artist|singer|student|baker|police officer|king|queen",
    "number": "<digit>|<digit>|<teen>|<tens>|<tens> <digit>|a hundred|<digit> hundred|<digit> thousand|"
    "<digit> hundred and <tens>",
    "digit": "one|two|three|four|five|six|seven|eight|nine",
    "teen": "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen",
    "tens": "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety",
    "hour": "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve",
    "clock": "<hour> o'clock|half past <hour>|quarter to <hour>|quarter past <hour>|<hour> thirty|ten to <hour>|"
    "<hour> in the morning|noon|midnight",
    "day": "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday",
    "month": "January|February|March|April|May|June|July|August|September|October|November|December",
    "ordinal": "first|second|third|fourth|fifth|tenth|twentieth|last|next",
    "day_part": "day|evening|weekend|morning|night|trip|time|holiday",
    "when": "today|tomorrow|tonight|now|soon|later|at <clock>|on <day>|next <day>|this morning|this evening|"
    "next week|in <month>|after <meal>|before <meal>|in <number> minutes|in an hour|every day|this afternoon|next year",
    "past": "yesterday|last night|last week|last year|on <day>|in <month>|this morning|an hour ago|<number> days ago|"
    "a long time ago|two years ago",
    "meal": "breakfast|lunch|dinner|work|school",
    "size": "big|small|large|little|long|short|tall|tiny|huge",
    "quality": "new|old|good|nice|beautiful|clean|cheap|expensive|strange|wonderful|broken|heavy|soft|quiet|fast|slow|"
    "dark|bright|warm|cold|empty|full|lovely|simple|young|famous|different|great|perfect|strong",
    "colour": "red|green|blue|yellow|black|white|orange|brown|purple|pink|grey|golden|silver",
    "thing": "<plain_thing>|<size> <plain_thing>|<colour> <plain_thing>|<quality> <plain_thing>|"
    "<size> <colour> <plain_thing>",
    "plain_thing": "house|car|book|table|chair|door|window|lamp|picture|phone|computer|box|bag|shirt|coat|hat|"
    "bicycle|clock|key|cup|letter|ball|flower|tree|dress|bed|camera|garden|mirror|umbrella|map|ticket|robot|"
    "<animal>|bottle|knife|ring|song|story|voice|photo|paper|pencil|guitar|piano|radio|boat|bridge",
    "animal": "cat|dog|horse|bird|fish|cow|sheep|mouse|rabbit|bear|lion|fox|duck|chicken|elephant|snake",
    "place": "park|station|market|museum|school|hospital|library|airport|hotel|beach|office|restaurant|church|"
    "city|village|river|forest|mountain|shop|bank|bakery|theatre|harbour|street|castle|lake|sea|farm",
    "room": "kitchen|bathroom|bedroom|garden|living room|workshop|office|house|hall|cellar",
    "where": "at the <place>|in the <room>|near the <place>|in the <place>|on the table|under the <plain_thing>|"
    "behind the <plain_thing>|next to the <plain_thing>|at home|over there|outside|here|in front of the <place>|"
    "between the <place> and the <place>|on the left|on the right|upstairs",
    "country": "England|France|Germany|Italy|Spain|America|London|Paris|Berlin|New York|China|Africa",
    "food": "bread|cheese|soup|fish|rice|chicken|salad|cake|an apple|a banana|an orange|an egg|butter|chocolate|"
    "ice cream|a sandwich|potatoes|tomatoes|carrots|fruit|meat|pizza|sugar|salt|honey|breakfast|lunch|dinner|"
    "some <drink>|a glass of <drink>|a cup of <cup_drink>|a piece of cake|vegetables|strawberries",
    "drink": "water|milk|juice|wine|beer|lemonade",
    "cup_drink": "tea|coffee|hot chocolate|milk",
    "weather": "sunny|cloudy|rainy|windy|cold|warm|hot|foggy|cool|dry|wet|stormy|icy",
    "mood": "happy|sad|tired|hungry|thirsty|angry|busy|ready|late|sick|afraid|alone|fine|well|early|bored|lucky|"
    "very happy|very tired|so sorry|too busy|free|right|wrong|sure|curious",
    "verb": "work|sleep|sing|dance|swim|walk|run|read|cook|play|paint|draw|write|travel|learn|study|drive|talk|"
    "listen|laugh|wait|stay|rest|help|speak English|play the <instrument>|ride a bicycle|go shopping|"
    "watch a film|listen to music|read a book|play football|take a picture|make <food>|come with us",
    "instrument": "piano|guitar|violin|drums",
    "doing": "working|sleeping|singing|dancing|swimming|walking|running|reading|cooking|playing|painting|drawing|"
    "writing|travelling|learning|waiting|talking|eating|drinking|looking at the <plain_thing>",
    "did": "saw|found|lost|bought|sold|made|took|broke|opened|closed|forgot|wanted|liked|heard|painted|cleaned|"
    "brought|gave me|drew|remembered|used|kept|carried|needed|built",
    "request": [
        "open the <plain_thing>|close the <plain_thing>|turn on the light|turn off the <radio>",
        "turn left at the <place>",
        "turn right after the <place>|go straight ahead|wait a moment|come here|sit down|stand up|be quiet|be careful",
        "give me the <thing>|show me the <thing>|bring me <food>|tell me a story|tell me about the <plain_thing>",
        "put the <plain_thing> <where>|call my <relative>|call <name> at <clock>|send a message to <person>",
        "draw a <thing>|draw a <thing> on a <colour> background|paint the <plain_thing> <colour>|play some music",
        "play the song again|stop the music|set an alarm for <clock>|set a timer for <number> minutes",
        "let us go to the <place>|let us <verb> <when>|do not forget the <plain_thing>|do not open the <plain_thing>",
        "take the <ordinal> street on the left|take the train to <country>|read the letter again|write your name",
        "say that again|speak slowly|help me with the <plain_thing>|buy some <drink> and <food>|try again <when>",
        "wake me up at <clock>|remember the number <number>|count to <number>|look at the <thing>|wash your hands",
        "make a <thing>|close your eyes|follow me|tell me the time|read me the news|clean the <room>",
    ],
    "radio": "radio|light|computer|lamp|phone|music|television",
    "question": [
        "how are you|how are you today|what is your name|where are you from|how old are you|what time is it",
        "what time does the <place> open|when does the train leave|when does the bus arrive|what day is it today",
        "where is the <place>|where is the nearest <place>|where is my <plain_thing>|where are my keys",
        "how much is the <thing>|how much does it cost|how many <plural> do you have|how far is the <place>",
        "can you help me|can you <verb>|can I have <food>|can we <verb> <when>|could you open the <plain_thing>",
        "could you bring me <food>|may I come in|may I use your <plain_thing>|do you like <food>|do you like to <verb>",
        "do you want <food>|do you have a <thing>|did you see the <thing>|did <one> go to the <place>",
        "would you like <food>|would you like to <verb> <when>|will it rain <when>|will it be <weather> <when>",
        "what is the weather like <when>|is it <weather> outside|are you <mood>|is the <plain_thing> <colour>",
        "is there a <place> near here|who is your <relative>|who is that|who painted the picture|why are you <mood>",
        "what colour is the <plain_thing>|what do you want to eat|what are you doing <when>",
        "which <plain_thing> is yours",
        "when will you be back|where do you live|where did you buy the <plain_thing>|have you ever been to <country>",
        "what did you say|what does this mean|shall we go|is <name> at home|are they <doing>|which one do you want",
    ],
    "plural": "books|cars|cats|dogs|children|apples|friends|pictures|houses|trees|birds|flowers|people|eggs|chairs|"
    "windows|horses|brothers|sisters|tickets|stories|songs|words|boxes",
    "short": "it is <weather>|I am <mood>|we have to go|I like <food>|it is late|I can not <verb>|she is <doing>|"
    "it is <clock>|this is my <plain_thing>|I have <number> <plural>|the <plain_thing> is <colour>|that is good",
    "statement": [
        "I am <mood>|I am <mood> <when>|we are <mood>|<one> is <mood>|<one> was <mood> <past>|they were <mood> <past>",
        "it is <weather> <when>|it was <weather> <past>|the weather is <weather>|it will be <weather> <when>",
        "it is raining|it is snowing in <country>|the sun is shining|the wind is strong|there is snow in the mountains",
        "it is <clock>|it is <day>|today is <day>|my birthday is in <month>|the meeting is at <clock>",
        "the meeting is on the <ordinal> of <month>|the train leaves at <clock>|the bus is <number> minutes late",
        "I like <food>|I love <food>|I want <food>|I would like <food>|we need <food> and <food>|we had <food> <past>",
        "I do not like <food>|<one> likes <food>|<one> wants <food>|there is <food> <where>|I never drink <cup_drink>",
        "the <plain_thing> is <colour>|the <plain_thing> is <quality>|this is a <thing>|that is my <thing>",
        "the <thing> is <where>|there is a <thing> <where>|there are <number> <plural> <where>|I have a <thing>",
        "<one> has a <thing>|<one> has <number> <plural>|my <plain_thing> is <where>|we have <number> <plural>",
        "my <plain_thing> is bigger than yours|the <animal> is <doing> <where>|a <size> <animal> lives <where>",
        "<who> <did> a <thing>|<one> <did> a <thing> <past>|I <did> the <plain_thing> <past>|<one> <did> the <thing>",
        "I want to <verb>|I want to <verb> <when>|<who> like to <verb>|<one> is <doing> <when>",
        "<who> are <doing> <where>",
        "I can <verb>|<one> can <verb> very well|we will <verb> <when>|<who> always <verb> <when>|I have to <verb>",
        "I live in <country>|<one> lives in <country>|I come from <country>|we went to <country> <past>",
        "we are going to the <place> <when>|I went to the <place> <past>|<one> works at the <place>",
        "the <place> is closed",
        "the <place> is open until <clock>|the <place> is <where>|my name is <name>|<name> is my <relative>",
        "her <relative> is a <job>|his name is <name>|I am <number> years old|it costs <number> dollars",
        "the <plain_thing> costs <number> pounds|the number is <digit> <digit> <digit> <digit>|I think it is <mood>",
        "I do not understand|I do not know the word|this is a test|testing <digit> <digit> <digit>",
        "nothing is <quality>",
        "the quick brown fox jumps over the lazy dog|I hear a <quality> voice|their <plain_thing> is <quality>",
        "our <relative> has <number> <plural>|everything is <mood>|something is <where>|I know where <one> is",
        "the <colour> one is <size>|the <size> one is better|it is easy to <verb>|it is hard to <verb> <when>",
        "they sell <food> at the <place>|the child is <doing>|the children are <doing> <where>|I will call you <when>",
        "the model draws a <thing>|the machine is <quality>|<one> sometimes works <when>|we often <verb> together",
    ],
}  # fmt: skip


def sentence(rng: random.Random, loose: float = LOOSE) -> str:
    """A sentence with its capital and its full stop or question mark: `Where is the station?`"""
    text = _loose(rng) if rng.random() < loose else _expand("sentence", rng)
    return text[0].upper() + text[1:]


def sentences(rng: random.Random, count: int, *, held_out: bool, loose: float = LOOSE) -> list[str]:
    """So many sentences, all of them of the training side or all held out."""
    found: list[str] = []
    while len(found) < count:
        text = sentence(rng, loose)
        if is_held_out(text) == held_out:
            found.append(text)
    return found


def is_held_out(text: str) -> bool:
    digest = hashlib.blake2b(plain(text).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") % HELD_OUT == 0


def plain(text: str) -> str:
    """The words alone, as the word error rate counts them: lower case, without punctuation."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word of the grammar, as it is written within a sentence, in alphabetical order."""
    texts = [_SLOT.sub(" ", text) for name in RULES for text in _alternatives(name)]
    return tuple(sorted({word for text in texts for word in re.findall(r"[A-Za-z']+", text)}))


@cache
def _alternatives(name: str) -> tuple[str, ...]:
    rule = RULES[name]
    return tuple(text for part in ([rule] if isinstance(rule, str) else rule) for text in part.split("|"))


def _expand(name: str, rng: random.Random) -> str:
    return _SLOT.sub(lambda slot: _expand(slot[1], rng), rng.choice(_alternatives(name)))


def _loose(rng: random.Random) -> str:
    return " ".join(rng.choices(vocabulary(), k=rng.randint(2, 8))) + rng.choice(".?.")
