//! The map of the PoPs that the configuration places: where is it that nodes are late?

use crate::config::PopPlace;

/// Width of the drawing.
const WIDTH: f64 = 720.0;

/// Its height, at least and at most.
const HEIGHT: (f64, f64) = (160.0, 260.0);

/// Degrees around the outermost PoPs.
const MARGIN: f64 = 6.0;

/// Degrees from one side to the other at least: one PoP alone is in some landscape.
const SPAN_MIN: f64 = 24.0;

/// Half of a mark's width.
const HALF: f64 = 8.0;

/// Width of a letter, at most, and height of a line.
const LETTER: (f64, f64) = (7.0, 13.0);

/// How far lines may be apart, in degrees; the widest of which there are enough is taken.
const STEPS: [f64; 6] = [60.0, 30.0, 15.0, 10.0, 5.0, 2.0];

/// A PoP that is to be drawn.
pub(super) struct MapPop {
    pub name: String,
    /// The class and the sign of its mark.
    pub sign: &'static str,
    /// What is said of it.
    pub said: String,
}

/// The map.
pub(super) struct PopMap {
    pub width: f64,
    pub height: f64,
    /// From where to where.
    pub lines: Vec<[f64; 4]>,
    /// What stands at their ends: where, and degrees.
    pub degrees: Vec<(f64, f64, String)>,
    pub marks: Vec<MapMark>,
    /// PoPs that have no place.
    pub missing: Vec<String>,
}

/// A PoP on the map.
pub(super) struct MapMark {
    pub pop: MapPop,
    pub x: f64,
    pub y: f64,
    /// Where its name begins, if there is room for it.
    pub label: Option<(f64, f64)>,
}

/// A part of the Earth on a part of the page: degrees east and north, as far apart as they are in its middle.
struct Projection {
    west: f64,
    north: f64,
    /// Of a degree east and of one north.
    scale: (f64, f64),
    height: f64,
}

impl Projection {
    fn around(places: &[&PopPlace]) -> Self {
        let range = |of: fn(&PopPlace) -> f64| {
            let least = places.iter().map(|place| of(place)).fold(f64::INFINITY, f64::min);
            let most = places.iter().map(|place| of(place)).fold(f64::NEG_INFINITY, f64::max);
            (least - MARGIN, most + MARGIN)
        };
        let widened = |(least, most): (f64, f64), span: f64| {
            let more = (span - (most - least)).max(0.0) / 2.0;
            (least - more, most + more)
        };
        let (south, north) = range(|place| place.latitude);
        let east_west = widened(range(|place| place.longitude), SPAN_MIN);
        let (west, east) = east_west;
        let shrinks = ((south + north) / 2.0).to_radians().cos().max(0.3);
        let per_east = WIDTH / (east - west);
        let per_north = per_east / shrinks;
        let height = ((north - south) * per_north).clamp(HEIGHT.0, HEIGHT.1);
        // Where that is too high or too flat, degrees north are drawn closer, or more of them.
        let (south, north) = widened((south, north), height / per_north);
        Self { west, north, scale: (per_east, height / (north - south)), height }
    }

    fn x(&self, longitude: f64) -> f64 {
        rounded((longitude - self.west) * self.scale.0)
    }

    fn y(&self, latitude: f64) -> f64 {
        rounded((self.north - latitude) * self.scale.1)
    }
}

impl PopMap {
    /// Of these PoPs at these places; `None` when none of them has one.
    pub fn new(places: &[PopPlace], pops: Vec<MapPop>) -> Option<Self> {
        let place_of = |pop: &MapPop| places.iter().find(|place| place.name == pop.name);
        let known: Vec<&PopPlace> = pops.iter().filter_map(place_of).collect();
        if known.is_empty() {
            return None;
        }
        let projection = Projection::around(&known);
        let (mut marks, mut missing) = (Vec::new(), Vec::new());
        for pop in pops {
            match place_of(&pop) {
                Some(place) => {
                    let (x, y) = (projection.x(place.longitude), projection.y(place.latitude));
                    marks.push(MapMark { pop, x, y, label: None });
                }
                None => missing.push(pop.name),
            }
        }
        let height = rounded(projection.height);
        label(&mut marks, height);
        let (lines, degrees) = graticule(&projection, height);
        Some(Self { width: WIDTH, height, lines, degrees, marks, missing })
    }
}

type Graticule = (Vec<[f64; 4]>, Vec<(f64, f64, String)>);

fn graticule(projection: &Projection, height: f64) -> Graticule {
    let (mut lines, mut degrees) = (Vec::new(), Vec::new());
    let wide = WIDTH / projection.scale.0;
    let high = height / projection.scale.1;
    let step = STEPS.into_iter().find(|step| wide / step >= 3.0).unwrap_or(1.0);
    let multiples = |from: f64, span: f64| {
        let first = (from / step).ceil();
        (0..).map(move |number| (first + f64::from(number)) * step).take_while(move |at| *at <= from + span)
    };
    for longitude in multiples(projection.west, wide) {
        let x = projection.x(longitude);
        lines.push([x, 0.0, x, height]);
        degrees.push((x + 3.0, height - 4.0, format!("{}°", wrapped(longitude))));
    }
    for latitude in multiples(projection.north - high, high).filter(|latitude| latitude.abs() <= 90.0) {
        let y = projection.y(latitude);
        lines.push([0.0, y, WIDTH, y]);
        degrees.push((3.0, rounded(y - 3.0), format!("{latitude}°")));
    }
    (lines, degrees)
}

/// From -180 to 180: the map may go on beyond.
fn wrapped(longitude: f64) -> f64 {
    (longitude + 180.0).rem_euclid(360.0) - 180.0
}

/// Puts each name beside its mark where it covers nothing; a name without room is left out, for its mark says it, too.
fn label(marks: &mut [MapMark], height: f64) {
    let mut taken: Vec<[f64; 4]> =
        marks.iter().map(|mark| [mark.x - HALF, mark.y - HALF, mark.x + HALF, mark.y + HALF]).collect();
    for mark in marks.iter_mut() {
        let letters = f64::from(u32::try_from(mark.pop.name.chars().count()).unwrap_or(u32::MAX));
        let wide = letters * LETTER.0;
        let (right, left) = (mark.x + HALF + 4.0, mark.x - HALF - 4.0 - wide);
        let (middle, below, above) = (mark.y + 4.0, mark.y + HALF + LETTER.1, mark.y - HALF - 4.0);
        let centred = mark.x - wide / 2.0;
        for (x, y) in [(right, middle), (left, middle), (centred, below), (centred, above)] {
            let own = [x, y - LETTER.1 + 3.0, x + wide, y + 3.0];
            let fits = own[0] >= 0.0 && own[1] >= 0.0 && own[2] <= WIDTH && own[3] <= height;
            if fits && !taken.iter().any(|other| overlap(&own, other)) {
                taken.push(own);
                mark.label = Some((rounded(x), rounded(y)));
                break;
            }
        }
    }
}

fn overlap(one: &[f64; 4], other: &[f64; 4]) -> bool {
    one[0] < other[2] && other[0] < one[2] && one[1] < other[3] && other[1] < one[3]
}

fn rounded(figure: f64) -> f64 {
    (figure * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(places: &[(&str, f64, f64)], pops: &[&str]) -> Option<PopMap> {
        let places: Vec<PopPlace> = places
            .iter()
            .map(|(name, latitude, longitude)| PopPlace {
                name: (*name).to_owned(),
                latitude: *latitude,
                longitude: *longitude,
            })
            .collect();
        let pop = |name: &&str| MapPop { name: (*name).to_owned(), sign: "completed", said: String::new() };
        PopMap::new(&places, pops.iter().map(pop).collect())
    }

    #[test]
    fn what_is_east_is_right_and_what_is_north_is_above() {
        let all = [("fra1", 50.1, 8.7), ("waw1", 52.2, 21.0), ("jnb1", -26.2, 28.0), ("nyc1", 40.7, -74.0)];
        let map = map(&all, &["fra1", "waw1", "jnb1", "nyc1", "mow1"]).unwrap();
        let at = |name: &str| {
            map.marks.iter().find(|mark| mark.pop.name == name).map(|mark| (mark.x, mark.y)).unwrap()
        };
        assert!(at("nyc1").0 < at("fra1").0 && at("fra1").0 < at("waw1").0 && at("waw1").0 < at("jnb1").0);
        assert!(at("waw1").1 < at("fra1").1 && at("fra1").1 < at("nyc1").1 && at("nyc1").1 < at("jnb1").1);
        assert_eq!(map.missing, ["mow1"]);
        for mark in &map.marks {
            assert!(
                (0.0..=map.width).contains(&mark.x) && (0.0..=map.height).contains(&mark.y),
                "{}",
                mark.pop.name
            );
        }
        assert!(map.lines.len() >= 4 && map.height >= HEIGHT.0 && map.height <= HEIGHT.1);
    }

    #[test]
    fn without_places_there_is_no_map_and_one_pop_alone_has_a_landscape() {
        assert!(map(&[], &["fra1"]).is_none() && map(&[("fra1", 50.0, 8.0)], &["waw1"]).is_none());
        let alone = map(&[("tvu1", -16.8, 179.9)], &["tvu1"]).unwrap();
        assert!((alone.marks[0].x - WIDTH / 2.0).abs() < 1.0, "{}", alone.marks[0].x);
        assert!(
            alone.degrees.iter().any(|(.., text)| text.starts_with('-') && text.len() > 3),
            "it goes on beyond"
        );
    }

    #[test]
    fn names_cover_nothing() {
        let many: Vec<(String, f64, f64)> =
            (0..40).map(|n| (format!("pop{n}"), 50.0 + f64::from(n % 5) / 4.0, f64::from(n) / 3.0)).collect();
        let many: Vec<(&str, f64, f64)> =
            many.iter().map(|(name, north, east)| (name.as_str(), *north, *east)).collect();
        let names: Vec<&str> = many.iter().map(|(name, ..)| *name).collect();
        let map = map(&many, &names).unwrap();
        let boxes: Vec<[f64; 4]> = map
            .marks
            .iter()
            .filter_map(|mark| {
                let (x, y) = mark.label?;
                Some([x, y - LETTER.1 + 3.0, x + mark.pop.name.len() as f64 * LETTER.0, y + 3.0])
            })
            .collect();
        assert!(!boxes.is_empty() && boxes.len() < 40);
        for (place, one) in boxes.iter().enumerate() {
            assert!(boxes[place + 1..].iter().all(|other| !overlap(one, other)));
        }
    }
}
