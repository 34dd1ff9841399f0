//! How do curves become an SVG picture? Panels one below the other, axes with round numbers, a line for each curve.

/// Colours told apart by most eyes. **Source** Okabe and Ito 2008, "Color universal design".
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];
const WIDTH: f64 = 820.0;
const PANEL: f64 = 230.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 30.0;
/// A curve of more points is drawn by as many columns, each from its lowest to its highest point.
const MAX_POINTS: usize = 1500;

/// How values lie along the upright axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// As they are.
    Linear,
    /// By their logarithm, where all are above 0.
    Log,
}

/// A line.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// What the legend says; nothing where it is empty.
    pub(super) name: String,
    /// Which run, for its colour.
    pub(super) run: usize,
    /// Whether it is dashed.
    pub(super) dashed: bool,
    /// Step and value.
    pub(super) points: Vec<(f64, f64)>,
}

/// Curves over the same axes.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    title: &'static str,
    scale: Scale,
    /// The lines.
    pub(super) curves: Vec<Curve>,
}

impl Panel {
    /// Axes without curves.
    pub(super) fn new(title: &'static str, scale: Scale) -> Panel {
        Panel { title, scale, curves: Vec::new() }
    }
}

/// A picture of all panels.
pub(super) fn picture(panels: &[Panel]) -> String {
    let height = PANEL * panels.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (at, panel) in panels.iter().enumerate() {
        draw(&mut svg, panel, at as f64 * PANEL);
    }
    svg.push_str("</svg>\n");
    svg
}

/// From values to places.
struct Axes {
    x: (f64, f64),
    y: (f64, f64),
    is_log: bool,
    top: f64,
}

impl Axes {
    fn of(panel: &Panel, top: f64) -> Option<Axes> {
        let finite = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let points: Vec<(f64, f64)> =
            panel.curves.iter().flat_map(|c| c.points.iter().filter(finite)).copied().collect();
        let range = |value: fn(&(f64, f64)) -> f64| {
            let values = points.iter().map(value);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (x, y) = (range(|p| p.0), range(|p| p.1));
        if points.is_empty() {
            return None;
        }
        let is_log = panel.scale == Scale::Log && y.0 > 0.0 && y.1 / y.0 > 20.0;
        let (low, high) = if is_log { (y.0.log10(), y.1.log10()) } else { (y.0.min(0.0), y.1) };
        let (low, high) = if high > low { (low, high) } else { (low, low + 1.0) };
        Some(Axes { x: if x.1 > x.0 { x } else { (x.0, x.0 + 1.0) }, y: (low, high), is_log, top })
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let y = if self.is_log { y.log10() } else { y };
        let part = |(low, high): (f64, f64), v: f64| (v - low) / (high - low);
        let inner = PANEL - TOP - BOTTOM;
        let across = LEFT + part(self.x, x) * (WIDTH - LEFT - RIGHT);
        (across, self.top + TOP + (1.0 - part(self.y, y)) * inner)
    }
}

fn draw(svg: &mut String, panel: &Panel, top: f64) {
    text(svg, (LEFT, top + 18.0), "start", panel.title);
    let Some(axes) = Axes::of(panel, top) else { return };
    let (left, right, low, high) = (LEFT, WIDTH - RIGHT, top + PANEL - BOTTOM, top + TOP);
    for value in ticks(axes.y) {
        let shown = if axes.is_log { 10f64.powf(value) } else { value };
        let (_, y) = axes.place((axes.x.0, shown));
        line(svg, (left, y), (right, y), "#dddddd");
        text(svg, (left - 6.0, y + 4.0), "end", &number(shown));
    }
    for value in ticks(axes.x) {
        let (x, _) = axes.place((value, if axes.is_log { 10f64.powf(axes.y.0) } else { axes.y.0 }));
        line(svg, (x, low), (x, high), "#eeeeee");
        text(svg, (x, low + 16.0), "middle", &number(value));
    }
    line(svg, (left, low), (right, low), "#444444");
    line(svg, (left, low), (left, high), "#444444");
    let mut legend = right;
    for curve in panel.curves.iter().rev() {
        let colour = COLOURS[curve.run % COLOURS.len()];
        let dash = if curve.dashed { " stroke-dasharray=\"6 3\"" } else { "" };
        let mut path = String::new();
        for (at, point) in thinned(&curve.points).into_iter().map(|p| axes.place(p)).enumerate() {
            let verb = if at == 0 { 'M' } else { 'L' };
            path.push_str(&format!("{verb}{:.1} {:.1}", point.0, point.1));
        }
        svg.push_str(&format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.4\"{dash}/>\n"));
        let name = curve.name.trim();
        if !name.is_empty() {
            let (y, words) = (top + 18.0, escaped(name));
            let mark = if curve.dashed { " (dashed)" } else { "" };
            svg.push_str(&format!(
                "<text x=\"{legend}\" y=\"{y}\" text-anchor=\"end\" fill=\"{colour}\">{words}{mark}</text>\n"
            ));
            legend -= 7.0 * (name.chars().count() as f64 + if curve.dashed { 9.0 } else { 0.0 }) + 14.0;
        }
    }
}

/// Finite points; of very many, each column's first, lowest, highest and last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().filter(|p| p.0.is_finite() && p.1.is_finite()).copied().collect();
    if points.len() <= MAX_POINTS {
        return points;
    }
    let size = points.len().div_ceil(MAX_POINTS / 4);
    let extreme = |chunk: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let by = |a: &usize, b: &usize| chunk[*a].1.total_cmp(&chunk[*b].1);
        let low = (0..chunk.len()).min_by(by).unwrap_or(0);
        let high = (0..chunk.len()).max_by(by).unwrap_or(0);
        let mut kept = vec![0, low, high, chunk.len() - 1];
        kept.sort_unstable();
        kept.dedup();
        kept.into_iter().map(|at| chunk[at]).collect()
    };
    points.chunks(size).flat_map(extreme).collect()
}

/// About five round numbers inside a range.
fn ticks((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * unit).into_iter().find(|&s| s >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..=first + 10).map(|i| i as f64 * step).take_while(|&v| v <= high + 1e-9 * step).collect()
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.1e}"),
        _ => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let path = format!("M{:.1} {:.1}L{:.1} {:.1}", from.0, from.1, to.0, to.1);
    svg.push_str(&format!("<path d=\"{path}\" stroke=\"{colour}\" fill=\"none\"/>\n"));
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, words: &str) {
    let words = escaped(words);
    svg.push_str(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>\n"));
}

/// Words as XML takes them, which forbids what controls a terminal.
fn escaped(words: &str) -> String {
    let words = words.replace(char::is_control, "\u{fffd}");
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(ticks((0.0, 10.0)), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks((0.0, 300.0)).len(), 4);
        assert_eq!((number(0.5), number(100.0), number(3e-4)), ("0.5".into(), "100".into(), "3.0e-4".into()));
    }

    #[test]
    fn many_points_keep_their_extremes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 1.0)).collect();
        points[54_321].1 = 9.0;
        points[12_345].1 = f64::NAN;
        let kept = thinned(&points);
        assert!(kept.len() <= 2 * MAX_POINTS && kept.iter().any(|p| p.1 == 9.0) && kept.iter().all(|p| !p.1.is_nan()));
    }
}
