//! Where things are: spatial relations, and places for one to four objects on a scene.

use serde::{Deserialize, Serialize};

use super::SIZE;
use super::random::Random;
use super::world::Layout;

/// Where the first object is, seen from the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Relation {
    #[serde(rename = "left of")]
    LeftOf,
    #[serde(rename = "right of")]
    RightOf,
    #[serde(rename = "above")]
    Above,
    #[serde(rename = "below")]
    Below,
}

use Relation::*;

impl Relation {
    pub const ALL: [Self; 4] = [LeftOf, RightOf, Above, Below];

    pub fn name(self) -> &'static str {
        match self {
            LeftOf => "left of",
            RightOf => "right of",
            Above => "above",
            Below => "below",
        }
    }

    /// The same fact, seen from the other object.
    pub fn inverse(self) -> Self {
        match self {
            LeftOf => RightOf,
            RightOf => LeftOf,
            Above => Below,
            Below => Above,
        }
    }
}

/// A square place: its centre and side, pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub cx: i32,
    pub cy: i32,
    pub size: i32,
}

impl Place {
    fn apart(self, other: Self) -> bool {
        let reach = (self.size + other.size) / 2 - 1;
        (self.cx - other.cx).abs() >= reach || (self.cy - other.cy).abs() >= reach
    }
}

/// The relations that hold between two boxes by GenEval's rule (evaluate_images.py,
/// `relative_position`): the offset of the centres, less a tenth of the summed sides, must point
/// mostly one way.
pub fn relations(a: Place, b: Place) -> Vec<Relation> {
    let slack = 0.1 * (a.size + b.size) as f32;
    let revise = |d: i32| (d.abs() as f32 - slack).max(0.0) * d.signum() as f32;
    let (dx, dy) = (a.cx - b.cx, a.cy - b.cy);
    let (rx, ry) = (revise(dx), revise(dy));
    if rx.abs() < 1e-3 && ry.abs() < 1e-3 {
        return Vec::new();
    }
    let norm = ((dx * dx + dy * dy) as f32).sqrt();
    let holds = [(LeftOf, -rx), (RightOf, rx), (Above, -ry), (Below, ry)];
    holds.into_iter().filter(|(_, along)| along / norm > 0.5).map(|(relation, _)| relation).collect()
}

const CENTRE: i32 = SIZE as i32 / 2;
const QUARTER: i32 = SIZE as i32 / 4;

/// A place for one object.
pub(crate) fn single(layout: Layout, random: &mut Random) -> Place {
    match layout {
        Layout::Slots => {
            let size = random.between(44, 52);
            jitter(random, (CENTRE, CENTRE), size, (3, 3))
        }
        Layout::Free => anywhere(random, 36, 56),
    }
}

/// Places for two objects, the first of which stands in `relation` to the second.
pub(crate) fn pair(layout: Layout, relation: Relation, random: &mut Random) -> [Place; 2] {
    if layout == Layout::Free {
        for _ in 0..64 {
            let places = [anywhere(random, 24, 33), anywhere(random, 24, 33)];
            if places[0].apart(places[1]) && relations(places[0], places[1]) == [relation] {
                return places;
            }
        }
    }
    let (near, far) = (QUARTER, 3 * QUARTER);
    let [first, second, spread] = match relation {
        LeftOf => [(near, CENTRE), (far, CENTRE), (1, 3)],
        RightOf => [(far, CENTRE), (near, CENTRE), (1, 3)],
        Above => [(CENTRE, near), (CENTRE, far), (3, 1)],
        Below => [(CENTRE, far), (CENTRE, near), (3, 1)],
    };
    [first, second].map(|centre| {
        let size = random.between(26, 30);
        jitter(random, centre, size, spread)
    })
}

/// Places for two to four of the same object: a row, a triangle or a grid.
pub(crate) fn group(layout: Layout, count: u32, random: &mut Random) -> Vec<Place> {
    if layout == Layout::Free {
        let size = random.between(18, 32 - 3 * count as i32);
        for _ in 0..64 {
            let places: Vec<_> = (0..count).map(|_| anywhere(random, size, size + 2)).collect();
            if places.iter().enumerate().all(|(i, a)| places[..i].iter().all(|b| a.apart(*b))) {
                return places;
            }
        }
    }
    let (near, far) = (QUARTER + 1, 3 * QUARTER - 1);
    let (centres, low, high): (&[(i32, i32)], i32, i32) = match (count, random.below(2)) {
        (2, _) => (&[(near, CENTRE), (far, CENTRE)], 24, 28),
        (3, 0) => (&[(11, CENTRE), (CENTRE, CENTRE), (53, CENTRE)], 17, 20),
        (3, _) => (&[(CENTRE, near), (near, far), (far, far)], 24, 27),
        _ => (&[(near, near), (far, near), (near, far), (far, far)], 24, 27),
    };
    let size = random.between(low, high);
    centres.iter().map(|centre| jitter(random, *centre, size, (1, 1))).collect()
}

fn jitter(random: &mut Random, (cx, cy): (i32, i32), size: i32, (x, y): (i32, i32)) -> Place {
    Place { cx: cx + random.between(-x, x), cy: cy + random.between(-y, y), size }
}

fn anywhere(random: &mut Random, low: i32, high: i32) -> Place {
    let size = random.between(low, high);
    let (first, last) = ((size + 1) / 2, SIZE as i32 - (size + 1) / 2);
    Place { cx: random.between(first, last), cy: random.between(first, last), size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(cx: i32, cy: i32) -> Place {
        Place { cx, cy, size: 20 }
    }

    #[test]
    fn relations_follow_genevals_rule() {
        assert_eq!(relations(at(10, 32), at(50, 32)), [LeftOf]);
        assert_eq!(relations(at(50, 30), at(10, 32)), [RightOf]);
        assert_eq!(relations(at(32, 10), at(30, 50)), [Above]);
        assert_eq!(relations(at(10, 50), at(50, 10)), [LeftOf, Below]);
        // Nearer than a tenth of the summed sides.
        assert_eq!(relations(at(30, 32), at(33, 32)), []);
    }

    #[test]
    fn places_fit_and_keep_their_relation() {
        for layout in [Layout::Slots, Layout::Free] {
            for seed in 0..500 {
                let random = &mut Random::new(seed, 0);
                for relation in Relation::ALL {
                    let [a, b] = pair(layout, relation, random);
                    assert_eq!(relations(a, b), [relation], "{a:?} {b:?}");
                    assert!(a.apart(b), "{a:?} {b:?}");
                }
                for count in 2..=4 {
                    let places = group(layout, count, random);
                    assert_eq!(places.len(), count as usize);
                    for (i, a) in places.iter().enumerate() {
                        assert!(places[..i].iter().all(|b| a.apart(*b)), "{places:?}");
                        let half = (a.size + 1) / 2;
                        let inside = half - 2..=SIZE as i32 - half + 2;
                        assert!(inside.contains(&a.cx) && inside.contains(&a.cy), "{a:?}");
                    }
                }
            }
        }
    }
}
