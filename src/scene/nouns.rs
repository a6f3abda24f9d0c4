//! The vocabulary of objects: our noun, and the CLDR short name under which the sprite sets keep it.
//!
//! Nouns are canonical: labels that name a colour or a variant of the same thing (red apple, closed
//! book, spouting whale) are merged before any split is drawn, so that no pair leaks across it.

/// GenEval's object words that have a sprite, under GenEval's own names.
#[rustfmt::skip]
pub const GENEVAL_NOUNS: &[(&str, &str)] = &[
    ("bicycle", "bicycle"), ("car", "automobile"), ("motorcycle", "motorcycle"), ("airplane", "airplane"),
    ("bus", "bus"), ("train", "locomotive"), ("truck", "delivery-truck"), ("boat", "sailboat"),
    ("traffic light", "vertical-traffic-light"), ("stop sign", "stop-sign"), ("bird", "bird"), ("cat", "cat"),
    ("dog", "dog"), ("horse", "horse"), ("sheep", "ewe"), ("cow", "cow"), ("elephant", "elephant"),
    ("bear", "bear"), ("zebra", "zebra"), ("giraffe", "giraffe"), ("backpack", "backpack"),
    ("umbrella", "umbrella"), ("handbag", "handbag"), ("tie", "necktie"), ("suitcase", "luggage"),
    ("frisbee", "flying-disc"), ("skis", "skis"), ("sports ball", "soccer-ball"), ("kite", "kite"),
    ("skateboard", "skateboard"), ("tennis racket", "tennis"), ("bottle", "bottle-with-popping-cork"),
    ("wine glass", "wine-glass"), ("cup", "hot-beverage"), ("fork", "fork-and-knife"),
    ("knife", "kitchen-knife"), ("spoon", "spoon"), ("bowl", "bowl-with-spoon"), ("banana", "banana"),
    ("apple", "red-apple"), ("sandwich", "sandwich"), ("orange", "tangerine"), ("broccoli", "broccoli"),
    ("carrot", "carrot"), ("hot dog", "hot-dog"), ("pizza", "pizza"), ("donut", "doughnut"),
    ("cake", "birthday-cake"), ("chair", "chair"), ("couch", "couch-and-lamp"),
    ("potted plant", "potted-plant"), ("bed", "bed"), ("toilet", "toilet"), ("tv", "television"),
    ("laptop", "laptop"), ("computer mouse", "computer-mouse"), ("computer keyboard", "keyboard"),
    ("cell phone", "mobile-phone"), ("book", "closed-book"), ("clock", "alarm-clock"), ("vase", "amphora"),
    ("scissors", "scissors"), ("teddy bear", "teddy-bear"), ("toothbrush", "toothbrush"),
];

/// Further nouns with a clear silhouette.
#[rustfmt::skip]
pub const FURTHER_NOUNS: &[(&str, &str)] = &[
    ("teapot", "teapot"), ("guitar", "guitar"), ("pear", "pear"), ("balloon", "balloon"), ("house", "house"),
    ("cactus", "cactus"), ("bell", "bell"), ("strawberry", "strawberry"), ("mushroom", "mushroom"),
    ("fish", "fish"), ("butterfly", "butterfly"), ("snail", "snail"), ("turtle", "turtle"),
    ("rocket", "rocket"), ("key", "key"), ("lemon", "lemon"), ("octopus", "octopus"),
    ("whale", "spouting-whale"), ("hammer", "hammer"), ("sunflower", "sunflower"), ("grape", "grapes"),
    ("cherry", "cherries"), ("pineapple", "pineapple"), ("tomato", "tomato"), ("eggplant", "eggplant"),
    ("corn", "ear-of-corn"), ("pepper", "hot-pepper"), ("watermelon", "watermelon"), ("peach", "peach"),
    ("avocado", "avocado"), ("potato", "potato"), ("mango", "mango"), ("kiwi", "kiwi-fruit"),
    ("coconut", "coconut"), ("chestnut", "chestnut"), ("crab", "crab"), ("lobster", "lobster"),
    ("shrimp", "shrimp"), ("squid", "squid"), ("snake", "snake"), ("lizard", "lizard"),
    ("crocodile", "crocodile"), ("frog", "frog"), ("owl", "owl"), ("duck", "duck"), ("penguin", "penguin"),
    ("pig", "pig"), ("rabbit", "rabbit"), ("fox", "fox"), ("tiger", "tiger"), ("monkey", "monkey"),
    ("gorilla", "gorilla"), ("kangaroo", "kangaroo"), ("koala", "koala"), ("panda", "panda"),
    ("camel", "two-hump-camel"), ("hippo", "hippopotamus"), ("rhino", "rhinoceros"), ("ant", "ant"),
    ("bee", "honeybee"), ("ladybug", "lady-beetle"), ("spider", "spider"), ("scorpion", "scorpion"),
    ("dolphin", "dolphin"), ("shark", "shark"), ("dinosaur", "sauropod"), ("flamingo", "flamingo"),
    ("parrot", "parrot"), ("swan", "swan"), ("seal", "seal"), ("jellyfish", "jellyfish"), ("bat", "bat"),
    ("deer", "deer"), ("goat", "goat"), ("crown", "crown"), ("hat", "top-hat"), ("shirt", "t-shirt"),
    ("dress", "dress"), ("sock", "socks"), ("glove", "gloves"), ("scarf", "scarf"), ("shoe", "running-shoe"),
    ("boot", "womans-boot"), ("ring", "ring"), ("gem", "gem-stone"), ("light bulb", "light-bulb"),
    ("candle", "candle"), ("flashlight", "flashlight"), ("camera", "camera"), ("radio", "radio"),
    ("telephone", "telephone"), ("drum", "drum"), ("violin", "violin"), ("trumpet", "trumpet"),
    ("saxophone", "saxophone"), ("accordion", "accordion"), ("microphone", "microphone"),
    ("gift", "wrapped-gift"), ("trophy", "trophy"), ("basketball", "basketball"), ("baseball", "baseball"),
    ("anchor", "anchor"), ("ship", "ship"), ("canoe", "canoe"), ("helicopter", "helicopter"),
    ("tractor", "tractor"), ("taxi", "taxi"), ("tram", "tram-car"), ("scooter", "kick-scooter"),
    ("tent", "tent"), ("castle", "castle"), ("door", "door"), ("window", "window"), ("ladder", "ladder"),
    ("bucket", "bucket"), ("broom", "broom"), ("basket", "basket"), ("magnet", "magnet"), ("axe", "axe"),
    ("wrench", "wrench"), ("screwdriver", "screwdriver"), ("lock", "locked"), ("shield", "shield"),
    ("dagger", "dagger"), ("bomb", "bomb"), ("telescope", "telescope"), ("microscope", "microscope"),
    ("envelope", "envelope"), ("pencil", "pencil"), ("paintbrush", "paintbrush"), ("crayon", "crayon"),
    ("scroll", "scroll"), ("briefcase", "briefcase"), ("tree", "deciduous-tree"),
    ("pine tree", "evergreen-tree"), ("palm tree", "palm-tree"), ("tulip", "tulip"), ("rose", "rose"),
    ("leaf", "maple-leaf"), ("clover", "four-leaf-clover"), ("cheese", "cheese-wedge"), ("bread", "bread"),
    ("egg", "egg"), ("hamburger", "hamburger"), ("pretzel", "pretzel"), ("croissant", "croissant"),
    ("cookie", "cookie"), ("candy", "candy"), ("lollipop", "lollipop"), ("ice cream", "ice-cream"),
    ("cupcake", "cupcake"), ("heart", "red-heart"), ("star", "star"), ("sun", "sun"),
    ("moon", "crescent-moon"), ("cloud", "cloud"), ("snowman", "snowman"), ("ghost", "ghost"),
    ("robot", "robot"), ("puzzle piece", "puzzle-piece"), ("yarn", "yarn"), ("parachute", "parachute"),
    ("seashell", "spiral-shell"), ("feather", "feather"), ("bone", "bone"), ("coral", "coral"),
    ("lantern", "red-paper-lantern"), ("honey pot", "honey-pot"), ("bathtub", "bathtub"),
    ("battery", "battery"), ("plunger", "plunger"), ("mirror", "mirror"), ("kimono", "kimono"),
    ("jar", "jar"), ("boxing glove", "boxing-glove"),
    ("cucumber", "cucumber"), ("olive", "olive"),
];

/// Things that are one, or that drawings of a few pixels do not tell apart.
#[rustfmt::skip]
const ALIKE: &[(&str, &str)] = &[("taxi", "car"), ("violin", "guitar")];

/// Whether two nouns' drawings may be taken for each other by anyone.
pub fn alike(a: &str, b: &str) -> bool {
    ALIKE.iter().any(|pair| *pair == (a, b) || *pair == (b, a))
}

/// Every noun with its CLDR name, GenEval's first.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    GENEVAL_NOUNS.iter().chain(FURTHER_NOUNS).copied()
}

/// The noun with its indefinite article: "a car", "an umbrella".
pub fn with_article(words: &str) -> String {
    // Most words in "u" begin like "you"; of those that don't, only umbrella is in the list.
    let article = if words.starts_with(['a', 'e', 'i', 'o']) || words.starts_with("um") { "an" } else { "a" };
    format!("{article} {words}")
}

/// The plural of a noun of the vocabulary: "hot dogs", "sheep", "knives".
pub fn plural(noun: &str) -> String {
    let (head, last) = match noun.rsplit_once(' ') {
        Some((head, last)) => (format!("{head} "), last),
        None => (String::new(), noun),
    };
    let plural = match last {
        "sheep" | "fish" | "scissors" | "skis" | "squid" | "shrimp" | "deer" => last.to_owned(),
        "mouse" => "mice".to_owned(),
        "knife" => "knives".to_owned(),
        "leaf" => "leaves".to_owned(),
        "potato" | "tomato" | "mango" => format!("{last}es"),
        _ => match last.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
            _ if last.ends_with(['s', 'x', 'z']) || last.ends_with("ch") || last.ends_with("sh") => {
                format!("{last}es")
            }
            _ => format!("{last}s"),
        },
    };
    head + &plural
}
