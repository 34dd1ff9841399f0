//! How does a cloud look? Balls painted with depth into a picture, darker behind edges.
//!
//! Law: pure arithmetic; the same balls and views give the same bytes.
//! **Source** Boucheny 2009, "Visualisation scientifique interactive de grands volumes de données", eye-dome lighting.

/// Pixels are drawn in so many parts each way, and averaged.
const PARTS: usize = 2;
/// The eye's distance from the origin; the unit ball is seen whole.
const EYE: f32 = 4.0;
/// Share of a tile that the object fills.
const FILL: f32 = 0.86;
/// Depth of what nothing covers, beyond every ball.
const EMPTY: f32 = -1e3;

/// A ball.
#[derive(Clone, Copy, Debug)]
pub struct Ball {
    /// Its centre.
    pub at: [f32; 3],
    /// Its radius, in the same unit.
    pub radius: f32,
    /// Red, green, blue from 0 to 1.
    pub rgb: [f32; 3],
}

/// From where a picture is taken: turned about y, then tilted down.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Radians about the axis y.
    pub yaw: f32,
    /// Radians of looking down.
    pub pitch: f32,
}

/// A square picture, three bytes a pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Pixels of a side.
    pub side: usize,
    /// `[side, side, 3]`, from the top.
    pub rgb: Vec<u8>,
}

/// A ball as it is seen: across, upwards, towards the eye, and its radius, in parts of pixels but for the third.
#[derive(Clone, Copy)]
struct Seen {
    x: f32,
    y: f32,
    near: f32,
    radius: f32,
}

/// Draws balls of about the unit ball's extent.
pub fn tile(balls: &[Ball], view: View, side: usize) -> Tile {
    let n = side * PARTS;
    let mut seen: Vec<Seen> = balls.iter().map(|ball| project(ball, view)).collect();
    fit(&mut seen, n as f32);
    let mut colour = vec![[0.0f32; 3]; n * n];
    let mut depth = vec![EMPTY; n * n];
    for (ball, seen) in balls.iter().zip(&seen) {
        paint(ball, *seen, (&mut colour, &mut depth), n);
    }
    let lit = |x: usize, y: usize| {
        let at = y * n + x;
        if depth[at] == EMPTY { paper(y as f32 / n as f32) } else { colour[at].map(|c| c * light(&depth, (x, y), n)) }
    };
    let mut rgb = Vec::with_capacity(3 * side * side);
    for row in 0..side {
        for column in 0..side {
            let mut sum = [0.0f32; 3];
            for part in 0..PARTS * PARTS {
                let found = lit(column * PARTS + part % PARTS, row * PARTS + part / PARTS);
                sum.iter_mut().zip(found).for_each(|(sum, value)| *sum += value);
            }
            rgb.extend(sum.map(|value| (value * 255.0 / (PARTS * PARTS) as f32).round().clamp(0.0, 255.0) as u8));
        }
    }
    Tile { side, rgb }
}

fn project(ball: &Ball, view: View) -> Seen {
    let ((sy, cy), (sp, cp)) = (view.yaw.sin_cos(), view.pitch.sin_cos());
    let [x, y, z] = ball.at;
    let (across, away) = (cy * x - sy * z, sy * x + cy * z);
    let (up, near) = (cp * y - sp * away, sp * y + cp * away);
    let scale = EYE / (EYE - near);
    Seen { x: across * scale, y: -up * scale, near, radius: ball.radius * scale }
}

/// Scales and moves what is seen into the middle of `side` parts.
fn fit(seen: &mut [Seen], side: f32) {
    let mut low = [f32::INFINITY; 2];
    let mut high = [f32::NEG_INFINITY; 2];
    for ball in &*seen {
        for (axis, value) in [ball.x, ball.y].into_iter().enumerate() {
            low[axis] = low[axis].min(value - ball.radius);
            high[axis] = high[axis].max(value + ball.radius);
        }
    }
    let extent = (high[0] - low[0]).max(high[1] - low[1]);
    let scale = if extent > 0.0 && extent.is_finite() { side * FILL / extent } else { 1.0 };
    for ball in seen {
        ball.x = (ball.x - 0.5 * (low[0] + high[0])) * scale + 0.5 * side;
        ball.y = (ball.y - 0.5 * (low[1] + high[1])) * scale + 0.5 * side;
        ball.radius *= scale;
    }
}

fn paint(ball: &Ball, seen: Seen, (colour, depth): (&mut [[f32; 3]], &mut [f32]), n: usize) {
    let radius = seen.radius.max(1.0);
    let range = |middle: f32| {
        (middle - radius).ceil().max(0.0) as usize..((middle + radius).floor() + 1.0).clamp(0.0, n as f32) as usize
    };
    for y in range(seen.y) {
        for x in range(seen.x) {
            let (dx, dy) = ((x as f32 - seen.x) / radius, (y as f32 - seen.y) / radius);
            let outside = dx * dx + dy * dy;
            if outside > 1.0 {
                continue;
            }
            let bulge = (1.0 - outside).sqrt();
            let near = seen.near + 0.5 * ball.radius * bulge;
            let at = y * n + x;
            if near > depth[at] {
                depth[at] = near;
                // A lamp at the upper left, mostly from the front.
                let lamp = (0.8 * bulge - 0.35 * dx - 0.5 * dy).clamp(0.0, 1.0);
                colour[at] = ball.rgb.map(|channel| channel * (0.72 + 0.34 * lamp));
            }
        }
    }
}

/// How much light is left where nearer things stand around, and in the distance.
fn light(depth: &[f32], (x, y): (usize, usize), n: usize) -> f32 {
    const REACHES: [i64; 2] = [2, 5];
    let here = depth[y * n + x];
    let mut behind = 0.0;
    for reach in REACHES {
        for (dx, dy) in [(-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (1, 1), (-1, 1), (1, -1)] {
            let (x, y) = (x as i64 + dx * reach, y as i64 + dy * reach);
            let is_inside = (0..n as i64).contains(&x) && (0..n as i64).contains(&y);
            let there = if is_inside { depth[y as usize * n + x as usize] } else { EMPTY };
            behind += (there - here - 0.012).clamp(0.0, 0.25);
        }
    }
    (-0.9 * behind).exp() * (0.93 + 0.07 * here.clamp(-1.0, 1.0))
}

/// The ground, from light above to a little darker below.
fn paper(down: f32) -> [f32; 3] {
    [0.975 - 0.075 * down, 0.98 - 0.065 * down, 0.985 - 0.05 * down]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_ball_covers_the_farther() {
        let ball = |z, rgb| Ball { at: [0.0, 0.0, z], radius: 0.5, rgb };
        let (red, blue) = ([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]);
        let middle = |balls: &[Ball], yaw| {
            let tile = tile(balls, View { yaw, pitch: 0.0 }, 33);
            let at = 3 * (16 * 33 + 16);
            [tile.rgb[at], tile.rgb[at + 2]].map(|channel| channel > 128)
        };
        let balls = [ball(0.9, red), ball(-0.9, blue)];
        assert_eq!(middle(&balls, 0.0), [true, false]);
        assert_eq!(middle(&balls, std::f32::consts::PI), [false, true]);
    }

    #[test]
    fn one_ball_and_none_are_pictures_too() {
        let view = View { yaw: 0.3, pitch: 0.3 };
        assert_eq!(tile(&[], view, 8).rgb.len(), 192);
        let dot = Ball { at: [0.0; 3], radius: 0.0, rgb: [0.5; 3] };
        assert_eq!(tile(&[dot], view, 8).rgb.len(), 192);
    }
}
