"""The words of the stories: who is in them, where they are, what they hold and how they feel."""

GIRLS = """Lily Mia Anna Sara Lucy Emma Rose Ella Nora Amy Zoe Molly Ruby Clara Ivy Lena Tina Kate Maya Jane Daisy
Polly Nina Lola Eva Iris Hana Alma Greta June""".split()
BOYS = """Tom Ben Max Sam Tim Jack Leo Finn Noah Oscar Peter Hugo Milo Adam Luke Dan Joe Theo Felix Otto Ravi Omar Kai
Henry Arlo Paul Ned Gus Simon Eli""".split()
PET_NAMES = "Pip Bobo Fuzzy Dot Nibbles Coco Biscuit Pepper Bean Waffles Rusty Snowy Tiny Mossy Button Acorn".split()
ANIMALS = """cat dog bear fox rabbit mouse owl duck frog squirrel hedgehog turtle pig goat pony lamb penguin elephant
lion monkey bird kitten puppy deer badger otter""".split()
SMALL_ANIMALS = "bird kitten puppy mouse rabbit duckling frog squirrel butterfly turtle lamb hedgehog".split()

TOYS = """ball kite doll boat drum hat book scarf robot balloon crown key bell blanket lantern puzzle umbrella
whistle ring mitten basket flute top rope bucket paintbrush backpack marble necklace""".split()
TOYS += ["teddy bear", "toy car", "toy train", "toy plane", "fire truck", "picture book"]
COLOURS = "red blue green yellow orange purple pink white black brown silver golden".split()
LOOKS = "big small little shiny soft old new round pretty fancy tiny long bright funny special wooden".split()
TRAITS = """kind brave happy shy clever curious gentle funny quiet cheerful polite careful friendly silly busy playful
sleepy lively honest""".split()

PLACES = [("the park", "in"), ("the forest", "in"), ("the garden", "in"), ("the beach", "at"), ("the lake", "at"),
          ("the farm", "on"), ("the hill", "on"), ("the school", "at"), ("the market", "at"), ("the river", "by"),
          ("the meadow", "in"), ("the playground", "at"), ("the zoo", "at"), ("the pond", "by"), ("the barn", "in"),
          ("the village", "in"), ("the library", "at"), ("the yard", "in"), ("the field", "in"), ("the shop", "at")]
HOMES = ["a small house", "a little town", "a big forest", "a quiet village", "a house by the sea",
         "a cottage near the woods", "a house on a farm", "a tall house", "a green valley", "a cozy house on a hill"]
HIDING = ["under the bed", "behind a tree", "under a bush", "in a box", "behind the door", "in the tall grass",
          "under a chair", "inside a basket", "on top of a fence", "next to a big rock", "under the old bridge",
          "behind the sofa", "in a puddle", "at the bottom of the stairs"]
OUTSIDE = ["behind a tree", "under a bush", "in the tall grass", "next to a big rock", "under the old bridge",
           "near a fence", "in a hole", "under some leaves"]
FOODS = ["apple pie", "cake", "soup", "bread", "cookies", "pancakes", "jam", "ice cream", "cheese", "berries",
         "carrots", "honey", "sandwiches", "apples", "pears", "nuts", "rice", "pizza", "muffins", "popcorn"]
BAKED = [("a cake", "it"), ("a pie", "it"), ("some cookies", "them"), ("some bread", "it"), ("some muffins", "them"),
         ("some pancakes", "them"), ("a big pot of soup", "it"), ("a pizza", "it"), ("some jam", "it")]
FIRST_PART = ["flour", "eggs", "milk", "butter", "sugar", "apples", "salt", "honey", "nuts", "berries", "cheese"]
PLANTS = ["flower", "sunflower", "tree", "pumpkin", "bean plant", "rose", "tomato plant", "strawberry plant"]
GAMES = ["tag", "hide and seek", "catch", "with blocks", "with the ball", "in the sand", "on the swings",
         "in the leaves", "in the snow", "a game", "pirates", "with chalk"]
GIFTS = ["card", "picture", "bracelet", "puppet", "paper crown", "wooden boat", "bunch of flowers", "warm scarf",
         "little book"]
BUILT = ["a tower", "a sandcastle", "a snowman", "a tree house", "a fort", "a boat", "a bird house", "a bridge",
         "a small cart", "a little castle"]
BREAKABLE = ["vase", "cup", "plate", "lamp", "window", "bowl", "glass", "pot", "clock", "mirror"]
CONTESTS = [("race", "run", "ran"), ("swimming race", "swim", "swam"), ("singing show", "sing", "sang"),
            ("dance show", "dance", "danced"),
            ("jumping contest", "jump", "jumped"), ("drawing contest", "draw", "drew"),
            ("bike race", "ride", "rode"), ("climbing contest", "climb", "climbed")]
FOUND = [("an egg", "a baby bird came out"), ("a wooden box", "there was an old map inside"),
         ("a tiny door", "a little fairy came out"), ("a bottle", "there was a letter inside"),
         ("a shell", "it made a sound like the sea"), ("a gold coin", "it shone like the sun"),
         ("a strange stone", "it opened and was full of crystals"), ("a sack", "it was full of seeds"),
         ("a big chest", "it was full of toys"), ("a music box", "it played a sweet song")]
WARNINGS = [("eat too many cookies", "ate one cookie after another", "{his} tummy hurt"),
            ("jump on the bed", "jumped higher and higher on the bed", "{he} fell and bumped {his} head"),
            ("touch the hot stove", "reached out and touched the stove", "{he} burned {his} finger"),
            ("go near the mud", "ran right into the mud", "{his} new shoes got stuck"),
            ("climb the tall tree", "climbed up and up", "{he} could not get down"),
            ("splash in the cold water", "splashed in the cold water all day", "{he} was wet and cold"),
            ("pull the cat's tail", "pulled the cat's tail", "the cat scratched {him}"),
            ("run on the ice", "ran fast on the ice", "{he} slipped and fell"),
            ("stay up late", "played until very late", "{he} was too tired to get up in the morning"),
            ("leave the gate open", "forgot and left the gate open", "all the chickens ran away")]
FEARS = [("the dark", "it was time for bed", "turned on a small lamp", "the dark was soft and quiet"),
         ("thunder", "a big storm came", "counted the seconds after each flash", "the storm was only noise and rain"),
         ("the water", "it was time to swim", "held {his} hand in the water", "the water was warm and fun"),
         ("the big slide", "all the other children went down the slide", "sat right behind {him}",
          "the slide was fast and fun"),
         ("dogs", "a big dog came near", "showed {him} how to pet it", "the dog was soft and friendly"),
         ("the first day of school", "the school bell rang", "walked to the door with {him}",
          "the other children were kind"),
         ("high places", "{he} looked down from the bridge", "held {his} hand and walked slowly",
          "the world looked pretty from up there"),
         ("the doctor", "it was time to see the doctor", "sat next to {him}", "the doctor was very nice"),
         ("spiders", "a spider sat on the wall", "put the spider in a jar", "the spider was very small"),
         ("bees", "a bee flew by", "told {him} to stand still", "the bee only wanted the flowers")]
GOOD = "happy glad proud cheerful joyful thankful excited".split()
BAD = "sad upset worried unhappy".split()
LESSONS = {
    "help": ["it is good to ask for help", "friends help each other", "a kind friend is the best thing of all",
             "helping others makes you happy"],
    "share": ["it is fun to share", "sharing makes everyone happy", "playing together is better than playing alone"],
    "brave": ["it is okay to be afraid", "being brave means trying even when you are scared",
              "new things can be fun"],
    "truth": ["it is best to tell the truth", "telling the truth is brave", "mistakes can be fixed"],
    "try": ["you should never give up", "it is good to try again", "hard work makes you better",
            "it takes time to make something good"],
    "listen": ["it is good to listen", "rules keep us safe", "it is wise to think first"],
    "wait": ["good things take time", "it is good to be patient", "small things can grow big"],
}
