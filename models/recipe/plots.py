"""The plots of the stories, as templates.

A template is one or more sentences; a story may leave out a template that begins with `?`. `[one|two]` stands for one
of its parts, which may be empty and may hold further brackets; `{name}` stands for a word of the story; `a(n)` becomes
"a" or "an". `H` is the hero and `F` the friend, with their pronouns; `parent` is the grown-up, who is `phe`. Letters
after a full stop are made capital by the generator.
"""

DAYS = "[one day|one day|one day|one morning|one sunny day|one afternoon|one cold day|one rainy day|one evening]"

OPENINGS = [
    '[once upon a time|once upon a time|once upon a time|once upon a time|long ago|once], there was a(n) '
    '[{trait} |little |{trait} little |]{kind} named {H}.',
    'once upon a time, [in {home}, there lived|there lived in {home}] a(n) [{trait} |little |]{kind} named {H}.',
    'once upon a time, a(n) [{trait}|little] {kind} named {H} lived in {home}.',
    '{H} was a(n) {trait} [little |]{kind}. {he} lived in {home}.',
    'once there was a(n) {trait} {kind}. {his} name was {H}.',
]
HABITS = [
    '{he} [loved|liked] to play [{game}|outside|in the sun|with {his} friends].',
    '{he} had a(n) {look} {toy}. {he} [loved|liked] {his} {toy} very much.',
    '{he} [loved|liked] to [sing|dance|read|draw|swim|run|jump|explore|paint|climb trees|look at the stars] '
    '[every day|all day long|in the morning|after school|].',
    '[every day|every morning|every week], {he} went to {place} [with {his} {parent}|to play|to look for '
    '{food}|].',
    "{he} [had a friend named {F}|had a good friend. {his} friend's name was {F}]. they [played|laughed|sang] "
    'together every day.',
    '{he} was always [{trait}|hungry for {food}|ready to play|full of ideas].',
    '',
    '',
]
LOST = [
    DAYS + ', {H} [could not find {his} {look} {toy}|lost {his} {look} {toy}|looked for {his} {toy}, but it was '
    'gone].',
    '?[{he} was very {bad}.|{he} felt {bad} and began to cry.|"oh no! where is my {toy}?" {he} '
    '[said|cried|asked].]',
    '{he} looked [{hiding2}|in {his} room|in the kitchen|everywhere], but [the {toy}|it] was not there.',
    '[then |]{F} came [by|to {place}|along]. "why are you [so |]{bad}?" [asked {F}|{F} asked|{fhe} asked].',
    '"i [lost|cannot find] my {toy}," [said {H}|{H} said]. "[can you|will you|please] help me[ find it|]?"',
    '["yes, i [can|will] help you," said {F}.|"do not worry. we are friends," said {F}. "we will look together."]',
    'they looked and looked. [at last|then|after a while], {F} [saw something {hiding}|looked {hiding}].',
    '[it was the {toy}!|"here it is!" {fhe} [shouted|called|said]. "your {toy} is here!"|there was the {look} '
    '{toy}!]',
    '{H} [hugged {F}|thanked {F}|smiled at {F}]. "thank you, {F}! [you are a good friend|i am so {good}]," {he} '
    'said.',
]
SHARE = [
    DAYS + ', {H} [took|brought] {his} {look} {toy} to {place}.',
    '{F} [saw the {toy}|came to {him}] and [asked|said], "can i play with [your {toy}|it][, please|]?"',
    '["no, it is [mine|my {toy}]!" said {H}.|{H} did not want to share. "no!" {he} said.|{H} shook {his} head.]',
    '{F} was {bad}. {fhe} [went away|sat down alone|started to cry|walked home slowly].',
    '[soon|after a while], {H} [was bored|felt lonely|did not have fun]. it was not fun to play alone.',
    '{H} [thought about {F}|felt {bad} too]. {he} [went|walked|ran] to {F} and said, "i am sorry. [you can play '
    'with my {toy}|we can share the {toy}|let us play together]."',
    '{F} [smiled|was happy again|jumped with joy]. "thank you!" {fhe} said. "you are [kind|nice|a good friend]."',
    'they [played with the {toy}|took turns with the {toy}] [all day|until the sun went down|and laughed a lot].',
]
FEAR = [
    'but {H} was afraid of {fear}.',
    DAYS + ', {fear_when}. {H} [was very scared|began to shake|wanted to hide|closed {his} eyes].',
    '?"i am [scared|afraid]," [said {H}|{he} said]. "i do not like {fear}."',
    '{his} {parent} [smiled|hugged {him}|took {his} hand] and said, "[you are not alone|i am here with you|you '
    'are safe|we can do it together]."',
    'then {his} {parent} {fear_help}.',
    '{H} [took a deep breath|opened {his} eyes|was quiet for a while]. [soon|then] {he} saw that {fear_truth}.',
    '"i [am not afraid any more|did it|am brave]!" {he} [said|shouted|laughed].',
    '{his} {parent} was [very |]proud of {him}. "you are [so |very |]brave," {phe} said.',
]
HURT = [
    DAYS + ', {H} [saw|found|met] a(n) [small |little |tiny |]{small} {in_place}.',
    'the {small} was [hurt|cold and wet|very hungry|stuck {hiding}|lost]. it [could not move|looked {bad}|made a '
    'sad sound].',
    '"[poor little {small}|oh no|do not be afraid]," said {H}. "i [will|can] help you."',
    '{he} [gave it some {food}|put it in a warm box|carried it home|held it in {his} hands|gave it some water].',
    '?{his} {parent} [helped too.|brought a soft blanket.|said, "you are very kind, {H}."]',
    '?[day after day|every day|all week], {H} took care of the {small}. [slowly|soon|after a few days], it [got '
    'better|was strong again|was happy again].',
    'then it was time to say goodbye. {H} was [{bad}|a little {bad}], but {he} [knew it was right|let the '
    '{small} go].',
    'the {small} [looked back at {him}|came back the next day|turned around one more time]. now they were '
    'friends.',
]
BAKE = [
    DAYS + ', {H} wanted to make {baked} for {his} {parent}.',
    '{he} [took|needed|mixed] some {first} and some {second}. [but there {third_was} no {third} left.|{he} could '
    'not find the {third}.]',
    '{he} [went|ran|walked] to {F} and asked, "do you have some {third}?"',
    '"yes, i have [some|a lot of] {third}," said {F}. "[can i help you|may i cook with you]?"',
    'they [mixed everything in a big bowl|stirred and stirred|washed their hands and cooked]. [the kitchen was a '
    'mess, but they laughed.|it smelled [so |very |]good.|]',
    '[soon|after an hour|at last] {baked_the} [{baked_was} ready|{baked_was} done]. they [put {baked_it} on the '
    'table|let {baked_it} cool].',
    '{his} {parent} came home and [took a bite|tasted {baked_it}]. "[this is so good|how delicious|yum]! you are '
    'great cooks," {phe} said.',
    '?they all ate together and were {good}.',
]
PLANT = [
    DAYS + ', {H} found a [small |tiny |little |]seed {in_place}. "what will it be?" {he} '
    '[asked|wondered|thought].',
    '{he} [dug a hole|made a little hole|took a pot of soil] and put the seed in it. {he} gave it [some |]water '
    '[every day|].',
    '[but nothing happened.|day after day, {he} looked, but there was nothing to see.] {H} was {bad}.',
    '?"why does it not grow?" {he} asked {his} {parent}. "[be patient|you must wait|good things take time]," '
    'said {his} {parent}.',
    '{H} waited and waited. the sun [shone|was warm], and the rain [fell|came].',
    '[one morning|then one day], {he} saw [a small green leaf|something green]. "look! it is growing!" {he} '
    '[shouted|cried].',
    '[week after week|day by day], it grew [bigger and bigger|taller and taller]. [at last|in the end], it was a '
    '[beautiful|big|lovely] {plant}.',
    '{H} was [very |so ]{good}. {he} showed the {plant} to {F}. "it is [beautiful|lovely]!" said {F}.',
]
ASTRAY = [
    DAYS + ', {H} [walked|went] [far into the woods|far away from home|down a long road] to [look for '
    '{food}|follow a {small}|pick flowers].',
    '[{he} did not look where {he} went.|{he} walked and walked.|soon it was getting dark.] [then|suddenly] {he} '
    'did not know the way home.',
    '"i am lost," {he} [said|cried|whispered]. {he} was [{bad}|scared|tired and {bad}].',
    '[just then|then], {he} met a(n) [old|wise|friendly] {animal}. "are you lost?" asked the {animal}.',
    '"yes, i [am lost|want to go home]," said {H}. "[do you know|can you show me] the way?"',
    '"[follow me|come with me|do not cry]," said the {animal}. "i [know|can show you] the way."',
    '?they went [over the hill|past the pond|across the river|through the trees] and [along the path|under a '
    'bridge|past an old barn].',
    'at last, {H} saw {his} home. {his} {parent} [ran out|was at the door] and [hugged {him}|held {him} tight].',
    '"thank you, {animal}," said {H}. [the {animal} smiled and went away.|"you are welcome," said the {animal}.]',
]
TRUTH = [
    DAYS + ', {H} was playing [{game}|inside|near the table] [with {F}|]. [suddenly|then|by accident], {he} hit '
    'the {broken}.',
    'crash! the {broken} [fell|fell on the floor] and broke. {H} was [scared|{bad}].',
    '?[{he} wanted to hide the pieces.|{he} hid the pieces under the bed.|"what should i do?" {he} thought.]',
    'then {his} {parent} came in. "who broke the {broken}?" {phe} asked.',
    '{H} [looked down|was quiet for a moment|took a deep breath]. "i [broke|did it. i broke] the {broken}. i am '
    '[so |very |]sorry," {he} said.',
    '{his} {parent} [was not angry|hugged {him}|nodded]. "thank you for telling [me |]the truth," {phe} said. '
    '"we can [fix it|clean it up|get a new one] together."',
    'they [cleaned the floor|picked up the pieces|fixed the {broken} with glue]. {H} felt [much |]better.',
    '?after that, {he} was [always |more |]careful [in the house|with {his} things|when {he} played].',
]
GIFT = [
    "[tomorrow was|it was almost] {F}'s birthday. {H} wanted to give {fhim} a [nice |special |]gift.",
    'but {H} had no money. {he} [was {bad}|sat down and thought]. "what can i [give|make]?" {he} '
    '[asked|wondered].',
    'then {he} had an idea. "i can make a(n) {gift}!" {he} [said|thought].',
    '{he} [worked|was busy] [all day|all night|all morning] [in {his} room|at the table|with {his} {parent}].',
    'the next day, {H} went to the party. [there were big gifts and balloons.|the other gifts were big and '
    'shiny.] {he} was [a little |]worried.',
    '{F} [opened|looked at] the {gift} and [smiled|laughed with joy]. "did you make this?" {fhe} asked.',
    '"yes, i made it [for you|because you are my friend]," said {H}.',
    '"it is the best gift [of all|in the world]!" said {F}. they [hugged|danced|ate cake together].',
]
CONTEST = [
    DAYS + ', there was a {contest} [in {home_town}|at school]. {H} wanted to [win|be in it].',
    'but {H} could not {skill} [very |]well. [{F} laughed. "you will never win!" {fhe} said.|{he} was {bad}.]',
    '"i will [try|practice] every day," {H} said [to {his} {parent}|to {himself}|].',
    '[in the morning and in the evening|day after day|every day after school], {he} [practiced|tried again and '
    'again]. {he} {skilled} [at home|{in_place}|in the rain and in the sun].',
    'then the big day came. {H} was [nervous|excited], but {he} [was ready|did not stop|did {his} best].',
    '{he} {skilled} [better than ever|with all {his} heart|as well as {he} could]. everyone [clapped|cheered|was '
    'surprised].',
    '[{H} won [the first prize|a golden cup]!|{H} did not win, but {he} was not {bad}.] "i am proud of [you|what '
    'you did]," said {his} {parent}.',
    '?[{F} came to {him} and said, "i am sorry. you are really good."|{he} was {good} because {he} had tried so '
    'hard.]',
]
FIND = [
    DAYS + ', {H} and {F} were [playing|walking] {in_place}. [suddenly|then], {F} [saw|found] {found} {outside}.',
    '"look, {H}! what is [this|it]?" [asked {F}|{fhe} asked]. "i do not know," said {H}. "[let us see|we should '
    'open it|maybe it is magic]."',
    '?they [were a little scared|were very curious|looked at it for a long time].',
    '{H} touched it [gently|slowly|with one finger]. [suddenly|then], {found_what}!',
    '"[wow|oh|how wonderful]!" they said. they [had never seen anything like it|could not believe it].',
    '["should we keep it?" asked {F}. "no, someone may be looking for it," said {H}.|"whose is it?" asked {H}. '
    '"we must ask," said {F}.]',
    "they [went|ran] home and told {H}'s {parent}. {phe} [laughed|smiled] and said, \"you [are good "
    'children|found a real treasure]."',
    '?[that night|from that day on], they [talked about it|dreamed about it|had a secret of their own].',
]
LONELY = [
    '{H} was new in [town|school|the village]. {he} had no friends and was [very |]{bad}.',
    DAYS + ', {he} [sat alone {in_place}|watched the others play {in_place}]. [{he} was too shy to speak.|nobody '
    'saw {him}.]',
    'then {F} came [over|to {him}] and said, "hello! i am {F}. what is your name?"',
    '"my name is {H}," {he} said [quietly|in a small voice]. "i am new here."',
    '"do you want to play [{game}|with me|with us]?" asked {F}. "yes[, please|, i do|]!" said {H}.',
    'they played [{game}|together] [all day|until it was dark|and laughed]. [then they ate some {food}.|{F} '
    'shared {fhis} {food} with {H}.]',
    '"you are [fun|nice|very funny]," said {F}. "[are we friends now?|now we are friends!]"',
    '{H} went home with a [big |]smile. "i have a [new |]friend," {he} told {his} {parent}. "{fhis} name is {F}."',
]
BUILD = [
    DAYS + ', {H} and {F} [wanted|decided] to build {built} {in_place}.',
    'they [worked|were busy] [all morning|for hours]. {H} [found|carried|brought] the [wood|stones|sticks], and '
    '{F} [held everything|made a plan|helped a lot].',
    'but [the wind blew hard|a {animal} ran by|the rain came down], and {built_the} [fell down|broke into '
    'pieces].',
    '"oh no!" cried {F}. "it is [broken|gone]. i [want to stop|am so {bad}]."',
    '?"[do not give up|we can try again|let us make it stronger]," said {H}. "we are a [good |great |]team."',
    "so they started again. this time, they [used bigger stones|worked slowly|asked {H}'s {parent} for help].",
    '[in the evening|at last|when the sun went down], it was done. {built_the} was [big and strong|the best of '
    'all|wonderful].',
    '"we did it!" they [shouted|said|cheered]. they were [tired but {good}|very {good}].',
]
WARN = [
    '"[please |]do not {warn}, {H}," [{his} {parent} always said|said {his} {parent}|{his} {parent} told {him}].',
    DAYS + ', {his} {parent} was [busy|not there|asleep|in the garden]. {H} [did not listen|forgot what {phe} '
    'said|thought it would be fun].',
    '{he} {warn_did}. [it was fun at first.|"this is fun!" {he} said.|{he} laughed and laughed.]',
    'but [then|soon|after a while], {warn_end}. "[ouch|help|oh no]!" {he} cried.',
    '{his} {parent} [heard {him}|came quickly|ran to {him}] and helped {him}. "[are you okay|what happened]?" '
    '{phe} asked.',
    '?"i [did not listen|was silly]. i am sorry," said {H}.',
    '"[i am glad you are safe|it is okay now]," said {his} {parent}. "[next time, please listen|now you know '
    'why]."',
    '?{H} [nodded|promised to listen|never did that again]. then they [had some {food}|read a book together|sat '
    'down by the fire].',
]
RAIN = [
    DAYS + ', it [started to rain|rained and rained]. {H} [looked out of the window|was at home] and was {bad}.',
    '"i [want|wanted] to play outside," {he} said. "the rain is not fun."',
    '"the rain [is good|makes puddles]," said {his} {parent}. "[put on your boots|take your umbrella|let us go '
    'out]!"',
    'they [went outside|ran out of the house] and jumped in the puddles. [splash! splash!|{H} laughed and '
    'laughed.]',
    '?[then the sun came out.|soon the rain stopped.] there was a [big |beautiful |]rainbow in the sky.',
]
PICNIC = [
    DAYS + ', {H} and {F} [had|went to have] a picnic {in_place}. {H} brought some {food}.',
    '[then|soon], a(n) hungry {animal} came [near|to them]. it looked at the {food}.',
    '"are you hungry?" asked {F}. the {animal} [nodded|made a little sound|came closer].',
    '"we have [enough|a lot]," said {H}. "you can [eat with us|have some]."',
    '[they all ate together|the {animal} ate and ate]. [after that|then], the {animal} [sang them a song|played '
    'with them|showed them a secret path].',
]
SLEEP = [
    'one night, {H} could not sleep. {he} [looked at the moon|turned left and right|counted the stars].',
    '"why are you [still |]awake?" asked {his} {parent}. "i am not tired," said {H}.',
    '{his} {parent} [told {him} a story|sang a soft song|gave {him} a {look} {toy}] and [sat by the bed|turned '
    'off the light].',
    '{H} [closed {his} eyes|lay still]. [soon|then], {he} [was asleep|fell asleep] and dreamed about {place}.',
    '?in {his} dream, {he} [could fly like a bird|was as big as a tree|met a talking {animal}|sailed on a '
    '{colour} boat].',
    'in the morning, {he} [told {his} {parent} about the dream|was not tired at all|woke up with a smile].',
]
SHOP = [
    DAYS + ', {H} [went|walked] to the [shop|market] with {his} {parent}. {he} saw a {look} {toy}.',
    '"can i have the {toy}[, please|]?" {he} asked. "it [costs too much|is not cheap]," said {his} {parent}.',
    '{H} was {bad}. but {he} [did not cry|had an idea]. "i [can|will] work for it," {he} said.',
    '{he} [washed the dishes|cleaned the house|helped in the garden|fed the chickens] [every day|all week]. '
    '{his} {parent} gave {him} [a coin|some coins].',
    '[at last|soon], {H} had enough money. {he} [ran to the shop|went back] and bought the {toy}.',
    '"i did it [all by myself|alone]!" {he} said. {his} {parent} was [proud|very proud] of {him}.',
]
ENDINGS = [
    '[in the end|from that day on|that day], {H} [learned|knew] that {lesson}.',
    '[and they all lived happily ever after.|the end.]',
    '{H} went [home|to bed] [{good}|with a smile|and slept well]. {he} [learned|knew] that {lesson}.',
    '[it was a [good|great|wonderful] day.|what a [good|great|wonderful] day it was!]',
    '',
    '',
]

# Each plot with the kind of lesson that it teaches.
PLOTS = [(LOST, "help"), (SHARE, "share"), (FEAR, "brave"), (HURT, "help"), (BAKE, "help"), (PLANT, "wait"),
         (ASTRAY, "help"), (TRUTH, "truth"), (GIFT, "try"), (CONTEST, "try"), (FIND, "help"), (LONELY, "share"),
         (BUILD, "try"), (WARN, "listen"), (RAIN, "brave"), (PICNIC, "share"), (SLEEP, "wait"), (SHOP, "try")]
