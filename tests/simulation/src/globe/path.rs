use super::City;
use crate::random::Random;

/// Mean radius of the earth, and what light in glass does in a millisecond.
const EARTH_KM: f64 = 6_371.0;
const GLASS_KM_PER_MS: f64 = 200.0;

/// Cables follow coasts and roads, and packets wait in routers.
const DETOUR: f64 = 1.5;
const ACCESS_MS: f64 = 2.0;

/// A retransmission comes one round trip and so much after what was lost: the least time-out that Linux takes.
const RETRANSMIT_MS: f64 = 200.0;

/// How long light in glass takes along the great circle, in milliseconds.
pub(super) fn light_ms(a: &City, b: &City) -> f64 {
    let (latitude_a, latitude_b) = (a.2.to_radians(), b.2.to_radians());
    let (north, east) = ((latitude_b - latitude_a) / 2.0, (b.3 - a.3).to_radians() / 2.0);
    let h = north.sin().powi(2) + latitude_a.cos() * latitude_b.cos() * east.sin().powi(2);
    2.0 * EARTH_KM * h.sqrt().min(1.0).asin() / GLASS_KM_PER_MS
}

/// One direction of one stream, which delivers in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    one_way_ms: f64,
    last_arrival: f64,
}

impl Path {
    pub(super) fn new(a: &City, b: &City) -> Self {
        Self { one_way_ms: light_ms(a, b) * DETOUR + ACCESS_MS, last_arrival: 0.0 }
    }

    /// When what is sent at `now` arrives, both in milliseconds.
    pub(super) fn send(&mut self, now: f64, loss: f64, random: &mut Random) -> f64 {
        let mut arrival = now + self.one_way_ms * (1.0 + 0.05 * random.unit()) + random.around(0.5);
        let mut timeout = 2.0 * self.one_way_ms + RETRANSMIT_MS;
        while random.chance(loss) {
            arrival += timeout;
            timeout *= 2.0;
        }
        self.last_arrival = self.last_arrival.max(arrival);
        self.last_arrival
    }
}
