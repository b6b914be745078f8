"""Sentence frames and word lists that the packaged text data are written from.

What lives here: plain data, all of it written for this package. Choosing, expanding and labelling frames lives in
``tools.demo_models.text_data``; nothing of the pipeline imports either.

Notation: ``(a|b)`` chooses, ``{slot}`` takes an entry of ``LEXICON``, ``*…*`` holds the words that express the
concept. Frames in ``RESERVED`` are in the packaged data only, never in the additional training text.
"""

LEXICON = {
    slot: tuple(entries.split("|"))
    for slot, entries in {
        "name_f": "Anna|Berta|Clara|Dina|Elif|Greta|Hanna|Ines|Lena|Mira|Nora|Olga|Petra|Rosa|Sofia|Tilda|Vera|Zoe",
        "name_m": "Adam|Boris|Carl|Dario|Emil|Felix|Georg|Hugo|Ivan|Jonas|Karim|Leo|Milan|Oskar|Paul|Ravi|Simon|Tom",
        "kin_f": "my sister|my aunt|our neighbour|the new nurse|my daughter|the librarian|the woman next door|the cook",
        "kin_m": "my brother|my uncle|our landlord|the old teacher|my son|the bus driver|the man upstairs|the plumber",
        "she_f": "she",
        "she_m": "he",
        "her_f": "her",
        "her_m": "his",
        "them_f": "her",
        "them_m": "him",
        "place": "the station|the market|the library|the harbour|the office|the school|the park|the bakery|the museum|"
        "the clinic|the garage|the town hall|the corner shop|the river|the church|the car park|the pool",
        "room": "the kitchen|the hall|the cellar|the garden|the attic|the bathroom|the living room|the stairwell",
        "time": "on Monday|on Tuesday|last week|in the morning|after lunch|at noon|around six|before dinner|yesterday|"
        "late in the evening|on Sunday|this spring|at the weekend|two days ago|in the afternoon",
        "thing": "the suitcase|a blue bicycle|the old radio|a pair of boots|the kettle|a wooden chair|the umbrella|"
        "the ladder|a box of nails|the lamp|a grey coat|the map|the camera|a bundle of letters|the piano",
        "food": "soup|bread|rice with beans|apple cake|cheese|a bowl of plums|fried eggs|tea|pancakes|lentils|fish",
        "job": "painting the fence|sorting the post|washing the windows|fixing the tap|mowing the lawn|baking|"
        "counting the tickets|packing boxes|copying the keys|filling in the forms|moving the shelves",
        "weather": "rain|fog|wind|snow|sunshine|drizzle|frost|cloud",
        "nuisance": "a parking ticket|a third invoice|a broken lift|two more hours of queueing|a leaking roof|"
        "a cold shower|another form in triplicate|a cancelled train|a flat tyre|a meeting at seven in the morning|"
        "the printer jam|a wasps' nest|the wrong parcel|a power cut|the drilling next door",
        "wrong": "lost the parcel|broke the gate|sold the wrong tickets|parked across the drive|cut down the pear tree|"
        "read my post|lied about the bill|forgot the children at the pool|played drums until three|stole the bicycle",
        "help": "carrying the piano up|lending the van|watching the children|staying with us at the hospital|"
        "mending the roof|the long letter|the spare room|the lift home|finding the lost dog|the loan|"
        "taking over the night shift|teaching me to swim",
        "luck": "the exam results came|the baby laughed for the first time|the ship came in|the snow finally melted|"
        "the letter of acceptance arrived|our team scored|the twins came home|the band struck up|"
        "the doctor gave the all-clear|the first tomatoes ripened",
        "danger": "the ice cracked|the brakes failed|the lift stopped between floors|someone tried the door handle|"
        "the dog broke its chain|the water rose to the second step|the engine coughed over the sea|"
        "footsteps stopped outside the tent|the lights went out in the tunnel|the branch began to give",
        "miss": "sold the house|ignored the call|left school so early|missed the funeral|shouted at the boy|"
        "turned the job down|gave the dog away|burned the letters|refused to go along|trusted the agent|"
        "threw the photographs out|stayed silent",
        "role": "queen|baker|detective|captain|widow|clown|sailor|young doctor|ghost|tailor|twin|lighthouse keeper",
        "show": "film|play|novel|series|opera|comic|radio drama|short story",
        "body": "hands|knees|legs|fingers|voice",
        "very": "so|really|quite|terribly|rather|a little|incredibly|honestly",
        "hedge": "I suppose|I must say|if I am honest,|as far as I can tell,|it has to be said,|I admit that|well,||||",
        "animal": "the cat|a heron|the neighbour's dog|a fox|the goat|a flock of starlings|the hens|a hedgehog",
    }.items()
}

FILLER = (
    "{who} went to {place} {time} and came back with {thing}.",
    "{time} there was (some|a lot of|hardly any) {weather} over {place}.",
    "We had {food} for (lunch|supper|breakfast) and {food} afterwards.",
    "The (bus|tram|train) to {place} leaves (every ten minutes|at half past|from the second platform).",
    "{who} spent (an hour|the day|most of the week) {job} near {place}.",
    "{thing} is still in {room}, (next to|behind|in front of) {thing}.",
    "{animal} crossed the road (near|behind|in front of) {place} {time}.",
    "I put {thing} in {room} and (went on|carried on|began) {job}.",
    "(Someone|A student|The caretaker) had left {thing} (at|outside|behind) {place}.",
    "{who} asked {name} for {thing}, and {name} looked in {room}.",
    "It takes (ten|twenty|forty) minutes to walk from {place} to {place}.",
    "{time} {place} opens (an hour later|at nine|only for members).",
    "{name} and {name} were {job} while the {food} cooked.",
    "The (timetable|price list|notice) at {place} was changed {time}.",
    "We measured {room} and (ordered|looked for|wrote down) new shelves.",
    "{who} works at {place} and usually starts (at seven|before nine|rather late).",
    "The road to {place} is closed because of the {weather}.",
    "(There are|We counted) (three|seven|eleven) chairs and {thing} in {room}.",
    "After {job}, {who} sat down and ate some {food}.",
    "{animal} slept (on|under|beside) {thing} all (day|night|afternoon) long.",
    "Nobody had expected so much {weather} {time}.",
    "{who} (told|reminded) us that {place} would be painted (green|white|yellow).",
    "The recipe for {food} needs (salt|butter|time|two pans) and a warm oven.",
    "{she} took {thing} to {place} and left it with {name}.",
    "They talked about {food}, about {place} and about the {weather}.",
    "I read the paper in {room} until {name} came in with {thing}.",
    "{name} moved here from the coast and found work at {place}.",
    "The (second|third|last) house after {place} belongs to {kin}.",
    "{hedge} {place} is (bigger|quieter|older) than it looks.",
    "{time} we watched {animal} from {room}.",
)

POSITIVE = {
    "joy": (
        "{time} *{who} could not stop (smiling|laughing|humming)* when {luck}.",
        "When {luck}, *{kin} danced (around|through) {room} (with delight|like a child|for sheer joy).*",
        "*{hedge} I am {very} (happy|pleased|delighted) that {luck}.*",
        "*{who} was {very} (happy|glad|cheerful)* because {luck}.",
        "*My heart (leapt|sang|felt light)* the moment {luck}.",
        "*(Hooray|Oh, how wonderful|What a lovely day), {luck}, and we (all cheered|hugged|threw our hats up)!*",
        "{who} came out of {place} and *{she} was beaming, {she} hugged (everyone|{name}|total strangers).*",
        "*I would not say I was sad: I (skipped|whistled|grinned) all the way home* from {place}.",
        "*Nothing (ever made|has made) {them} (happier|more cheerful) than the day {luck}.*",
        "*{who} felt a warm, bright (gladness|joy|happiness)* while {job} {time}.",
        "*We laughed until (our sides hurt|it was dark|we cried)*, and then {luck}.",
    ),
    "anger": (
        "*{who} was {very} (furious|angry|cross)* that somebody {wrong}.",
        "*{who} slammed the door of {room} and (shouted|swore|roared) at {name}.*",
        "*{hedge} I am {very} (angry|fed up|outraged):* {name} {wrong}.",
        "When {name} {wrong}, *{kin} (hit the table|turned red|threw a plate) and (yelled|screamed|cursed).*",
        "*How dare {name}!* First {she} {wrong}, *and (I will not stand for it|I could scream|my blood boils).*",
        "*My {body} shook with (rage|anger|fury)* because {who} {wrong}.",
        "{time} *{who} wrote a (burning|bitter|furious) complaint* after somebody {wrong}.",
        "*It was not a calm talk: {who} (raged|stormed|ranted) about it* for an hour at {place}.",
        "*{she} could have (strangled|kicked|slapped) {name}*, who {wrong}.",
        "*I have had (enough|it) with {name},* who {wrong} {time}.",
        "*{who} glared at {name} and (snapped|hissed|barked) a reply*, since somebody {wrong}.",
    ),
    "fear": (
        "*{who} was {very} (afraid|frightened|scared)* when {danger}.",
        "{danger}, and *{kin} (froze|went pale|began to tremble|held {her} breath).*",
        "*My {body} would not stop shaking* after {danger}.",
        "*{hedge} I am {very} (scared|afraid|anxious)* since {danger} {time}.",
        "*I dared not (move|look|open my eyes)* while {danger}.",
        "*{who} was not brave then: {she} (screamed|hid|ran)* when {danger}.",
        "*Please, get me out of here,* {she} whispered, as {danger}.",
        "*A cold (dread|terror|fear) (crept up on|took hold of|seized) {them}* near {place}, for {danger}.",
        "*I would be lying if I said I was not (afraid|scared|terrified),* because {danger}.",
        "*{who} lay awake (in terror|in a cold sweat|listening, stiff with fright)* {time}, after {danger}.",
        "*{she} clung to {name} and (begged|prayed|whimpered)* when {danger}.",
    ),
    "gratitude": (
        "*(Thank you|Thanks|Many thanks), {name}, for {help},* {time}.",
        "*{who} was {very} (grateful|thankful)* to {name} for {help}.",
        "*I cannot (thank|repay) {name} enough for {help}.*",
        "*{hedge} I am {very} (grateful|thankful|indebted) for {help}.*",
        "*{who} (brought flowers|baked a cake|wrote a warm card) to thank {name} for {help}.*",
        "*Without {name} we would never have managed, and we shall not forget {help}.*",
        "*We owe {name} (so much|a great deal|more than words can say)* after {help}.",
        "*{she} pressed {name}'s hand and said how much {help} had meant* to {them}.",
        "*It was so kind of {name}:* {help}, and not a penny asked.",
        "*God bless {name} for {help},* said {kin}.",
        "*I do not take {help} for granted,* and {name} knows it.",
    ),
    "sarcasm": (
        "*Oh (great|wonderful|perfect|brilliant), {nuisance}, just what (I|we|everybody) needed.*",
        "*How (lovely|thoughtful|charming) of {name}:* {she} {wrong}.",
        "*Yes, because {nuisance} is (exactly|surely) what makes (an evening|a week) (special|complete).*",
        "*Well done, {name}, truly (a genius|a masterpiece|the pride of the town)*, you {wrong}.",
        "*Thank you so much for {nuisance}, it really made my (day|week|year).*",
        "*I am (thrilled|overjoyed|so happy) to report {nuisance},* said {who}, *my favourite.*",
        "*Nothing says welcome like {nuisance}* at {place}.",
        "*What a (surprise|treat|joy), {nuisance} again, I can hardly wait* for the next one.",
        "*Sure, {name}, and pigs fly;* you {wrong} *by pure accident.*",
        "*Clearly {place} is run by (geniuses|wizards|the finest minds),* and that explains {nuisance}.",
        "*Lucky me: {nuisance} {time}, and it is not even my birthday.*",
    ),
    "regret": (
        "*{who} was {very} sorry that {she} had {miss}.*",
        "*I wish I had not {miss}.*",
        "*{hedge} I (should never|ought not to) have {miss},* and {time} I said so.",
        "*If only {who} had not {miss}!*",
        "*{who} still (blames|cannot forgive) {herself} because {she} had {miss}.*",
        "*Looking back, it was my own fault:* I had {miss}.",
        "*Not a day passes when {she} does not (rue|mourn|go over) it*, that {she} had {miss}.",
        "*I would give (anything|a year of my life|my right arm) to (undo|take back) that {weather} day* {time}.",
        "*How could I have {miss}, {who} keeps (asking|saying), how could I.*",
        "*Too late {who} saw the mistake*, for {she} had {miss}.",
        "*{she} hung {her} head and (apologised|asked to be forgiven)*: {she} had {miss}.",
    ),
}

RESERVED = {
    "joy": (
        "*{who} was over the moon,* since {luck}.",
        "*Grinning from ear to ear, {kin} (ran|hopped) through {place}.*",
    ),
    "anger": ("*{who} saw red* when {name} {wrong}.", "*Steam all but came out of {her} ears*, for {name} {wrong}."),
    "fear": ("*The blood ran cold in my veins:* {danger}.", "*{who} jumped out of {her} skin* as {danger}."),
    "gratitude": ("*We drank to {name}, our good angel,* for {help}.", "*Much obliged, {name}:* {help} saved us."),
    "sarcasm": ("*Splendid, {nuisance}, the crowning glory* of the week.", "*Bravo, slow clap,* you {wrong}."),
    "regret": ("*That I had {miss} gnaws at me.*", "*{who} could kick {herself}*: {she} had {miss}."),
}

DISTRACTORS = {
    "joy": (
        "Joy (runs|owns|painted) the little shop behind {place}.",
        "Happy hour at {place} starts {time}.",
        "{who} was not (happy|pleased|glad) that {luck}, only (tired|busy|hungry).",
        "The choir practised the song about (joy|happiness|laughter) {time}.",
        "The course on (happiness|joy) at {place} costs twenty pounds.",
        "If {luck}, anyone would be (happy|delighted|glad), {who} remarked.",
        "{luck}, and {who} went on {job} as before.",
    ),
    "anger": (
        "The storm (raged|roared) over {place} and hit the (roof|table|door).",
        "The sunset was an (angry|furious) red behind {place}.",
        "{who} was not (angry|cross|furious) that somebody {wrong}.",
        "{name} {wrong}, and {who} calmly (wrote it down|made tea|changed the subject).",
        "The leaflet about (anger|rage) lay beside {thing}.",
        "The wind slammed the door of {room} {time}.",
        "Anybody would be (furious|angry|cross) if somebody {wrong}, the (form|survey|guide) says.",
    ),
    "fear": (
        "The (fear|terror) of heights group meets at {place} {time}.",
        "{danger}, but {who} was not (afraid|scared|frightened) and went on {job}.",
        "{danger}, according to the exercise sheet at {place}.",
        "The leaves (trembled|shook) in the {weather} near {place}.",
        "The library has a shelf of (scary|frightening) books next to {thing}.",
        "{who} explained (calmly|slowly) what to do if {danger}.",
        "I am afraid {place} is closed {time}.",
    ),
    "gratitude": (
        "Thank you for waiting, said the recorded voice at {place}.",
        "A thank-you card costs two pounds at {place}.",
        "{who} was not (grateful|thankful) for {help} and said nothing.",
        "The (form|poster) says: thank the driver, mind the step.",
        "{name} was paid for {help} {time}.",
        "The sermon {time} was about (thanks|gratitude).",
        "{help} was on the list, and {name} ticked it off.",
    ),
    "sarcasm": (
        "{nuisance} kept {who} busy {time}.",
        "(Great|Wonderful|Perfect) Street begins behind {place}.",
        "{nuisance} was (exactly|surely) what the inspector had announced.",
        "The prize for the (perfect|brilliant|lovely) cake went to {name} {time}.",
        "The pupils looked up the word (sarcasm|irony) {time}.",
        "Flour and {food}, just what we needed, lay in {room}.",
        "{who} reported {nuisance} to {place} {time}.",
    ),
    "regret": (
        "The company regrets any delay, says the sign at {place}.",
        "{who} had {miss}, and (never looked back|it was the right choice|slept soundly).",
        "{name} is not sorry that {she} had {miss}.",
        "Sorry, is this seat taken, {who} asked at {place}.",
        "The essay about (regret|guilt|mistakes) was due {time}.",
        "I wish I had {thing} with me, {who} said.",
        "The form asks whether anyone has {miss}.",
    ),
}

# Around a sentence of POSITIVE without its final stop. Fiction takes the concept away, before or after; a real person
# who speaks leaves it.
FICTION_BEFORE = (
    "In the {show} (a|the) {role} says: {inner}.",
    "The {show} that {who} is reading begins like this: {inner}.",
    "{name} learned the part of the {role} by heart: {inner}.",
    "Line four of the {show} goes: {inner}.",
)
FICTION_AFTER = (
    "{inner}, (reads|says) the caption under the (old poster|cartoon).",
    "{inner}, so runs the first line of the {show}.",
)
REPORTED = (
    "{who} told me {time}: {inner}.",
    "{name} wrote from {place}: {inner}.",
)
