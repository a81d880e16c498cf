//! Panels as SVG and PNG.

use std::sync::Once;

use image::{ImageFormat, RgbImage};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::StudyError;
use super::figure::{Kind, Panel, Point, Series};
use crate::Result;

/// Size of one panel.
const PANEL: (u32, u32) = (560, 400);
/// Panels beside each other, at most.
const COLUMNS: usize = 2;
/// Colours that keep apart for the colour-blind too (Okabe and Ito).
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];
/// Labels of a logarithmic axis, at most.
const MOST_TICKS: usize = 8;
const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(110, 110, 110);

/// A drawing area with its axes.
type Chart<'a, B, X> = ChartContext<'a, B, Cartesian2d<X, RangedCoordf64>>;

/// Panels side by side, as the text of an SVG file. Bars on points are standard errors of the mean.
///
/// # Errors
/// `Figure` for a panel that cannot be drawn.
pub fn svg(panels: &[Panel]) -> Result<String> {
    let mut text = String::new();
    draw(panels, SVGBackend::with_string(&mut text, size(panels)).into_drawing_area())?;
    Ok(text)
}

/// The same as the bytes of a PNG file.
///
/// # Errors
/// `Figure` for a panel that cannot be drawn.
pub fn png(panels: &[Panel]) -> Result<Vec<u8>> {
    let (width, height) = size(panels);
    let mut pixels = vec![255; (width * height * 3) as usize];
    draw(panels, BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area())?;
    let image = RgbImage::from_raw(width, height, pixels).ok_or_else(|| failed("a picture of another size"))?;
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png).map_err(|error| failed(&error.to_string()))?;
    Ok(bytes.into_inner())
}

fn failed(problem: &str) -> crate::TrainError {
    StudyError::Figure { problem: problem.to_string() }.into()
}

fn size(panels: &[Panel]) -> (u32, u32) {
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    (PANEL.0 * columns as u32, PANEL.1 * rows as u32)
}

fn draw<B: DrawingBackend>(panels: &[Panel], area: DrawingArea<B, Shift>) -> Result<()> {
    static LETTERS: Once = Once::new();
    LETTERS.call_once(|| {
        // It was tried when the program was made: a font that is none shows as boxes in every figure's test.
        register_font(FONT, FontStyle::Normal, include_bytes!("../../../assets/fonts/DejaVuSans-subset.ttf")).ok();
    });
    let wrong = |error: &dyn std::fmt::Display| failed(&error.to_string());
    area.fill(&WHITE).map_err(|error| wrong(&error))?;
    let columns = panels.len().clamp(1, COLUMNS);
    let areas = area.split_evenly((panels.len().div_ceil(columns).max(1), columns));
    for (panel, area) in panels.iter().zip(&areas) {
        let (x, y) = ranges(panel);
        match panel.kind {
            Kind::LogLines => {
                let ticks = log_ticks(panel, &x);
                draw_panel(panel, area, x.log_scale().with_key_points(ticks), y)
            }
            _ => draw_panel(panel, area, x, y),
        }?;
    }
    area.present().map_err(|error| wrong(&error))
}

/// What the axes go over: every point with its error bar, and some room.
fn ranges(panel: &Panel) -> (std::ops::Range<f64>, std::ops::Range<f64>) {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let over = |values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > high { (0.0, 1.0) } else { (low, high) }
    };
    let (low, high) = over(&mut points().map(|point| point.x));
    let (bottom, top) = over(&mut points().flat_map(|point| [point.mean - point.error(), point.mean + point.error()]));
    let x = match &panel.kind {
        Kind::Bars(groups) => -0.5..groups.len() as f64 - 0.5,
        Kind::LogLines => low * 0.8..high * 1.25,
        Kind::Lines | Kind::Points => {
            let room = if high > low { 0.05 * (high - low) } else { 0.5 };
            low - room..high + room
        }
    };
    // Bars stand on zero.
    let (bottom, top) =
        if matches!(panel.kind, Kind::Bars(_)) { (bottom.min(0.0), top.max(0.0)) } else { (bottom, top) };
    let room = if top > bottom { 0.08 * (top - bottom) } else { 0.5 };
    // The legend lies above the curves.
    let legend = if panel.series.len() > 1 { 0.07 * panel.series.len() as f64 * (top - bottom).max(room) } else { 0.0 };
    (x, bottom - if bottom == 0.0 { 0.0 } else { room }..top + room + legend)
}

/// Where a logarithmic axis has its labels: at the points where they are few whole numbers and far apart, else at 1, 2 and 5 of
/// every decade, or at 1 alone where that would be many.
fn log_ticks(panel: &Panel, range: &std::ops::Range<f64>) -> Vec<f64> {
    let mut values: Vec<f64> =
        panel.series.iter().flat_map(|series| &series.points).map(|point| point.x).filter(|x| x.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let whole = values.iter().all(|value| value.fract() == 0.0 && *value < 1e4);
    if whole && (2..=MOST_TICKS).contains(&values.len()) && values.windows(2).all(|pair| pair[1] >= 1.5 * pair[0]) {
        return values;
    }
    let decades = range.start.log10().floor() as i32..=range.end.log10().ceil() as i32;
    let at = |steps: &[f64]| -> Vec<f64> {
        let all = decades.clone().flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        all.filter(|tick| range.contains(tick)).collect()
    };
    let close = at(&[1.0, 2.0, 5.0]);
    if close.len() <= MOST_TICKS { close } else { at(&[1.0]) }
}

fn draw_panel<B, X>(panel: &Panel, area: &DrawingArea<B, Shift>, x: X, y: std::ops::Range<f64>) -> Result<()>
where
    B: DrawingBackend,
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let wrong = |error: DrawingAreaErrorKind<B::ErrorType>| failed(&error.to_string());
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, (FONT, 15))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(x, y.clone())
        .map_err(wrong)?;
    let groups: &[String] = if let Kind::Bars(groups) = &panel.kind { groups } else { &[] };
    let named = |x: &f64| {
        let group = (x.fract() == 0.0 && *x >= 0.0).then(|| groups.get(*x as usize)).flatten();
        group.cloned().unwrap_or_default()
    };
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(&panel.x_label).y_desc(&panel.y_label).label_style((FONT, 12)).axis_desc_style((FONT, 13));
    mesh.light_line_style(TRANSPARENT).bold_line_style(BLACK.mix(0.1)).axis_style(GREY).disable_x_mesh();
    mesh.x_label_formatter(&short).y_label_formatter(&short).x_labels(7).y_labels(7);
    if !groups.is_empty() {
        mesh.x_label_formatter(&named).x_labels(2 * groups.len() + 1);
    }
    mesh.draw().map_err(wrong)?;
    for (index, series) in panel.series.iter().enumerate() {
        draw_series(&mut chart, panel, index, series)?;
    }
    if panel.series.len() > 1 {
        let style = BLACK.mix(0.15);
        let mut labels = chart.configure_series_labels();
        labels.label_font((FONT, 12)).background_style(WHITE.mix(0.85)).border_style(style);
        labels.position(SeriesLabelPosition::UpperLeft).draw().map_err(wrong)?;
    }
    Ok(())
}

/// One curve, or the bars of one colour.
fn draw_series<B, X>(chart: &mut Chart<'_, B, X>, panel: &Panel, index: usize, series: &Series) -> Result<()>
where
    B: DrawingBackend,
    X: Ranged<ValueType = f64>,
{
    let wrong = |error: DrawingAreaErrorKind<B::ErrorType>| failed(&error.to_string());
    let count = panel.series.len();
    let color = COLORS[index % COLORS.len()];
    let place = |point: &Point| match panel.kind {
        Kind::Bars(_) => point.x + (index as f64 + 0.5 - count as f64 / 2.0) * 0.8 / count as f64,
        _ => point.x,
    };
    match panel.kind {
        Kind::Bars(_) => {
            let half = 0.38 / count as f64;
            let bar = |point: &Point| {
                Rectangle::new(
                    [(place(point) - half, 0.0), (place(point) + half, point.mean)],
                    color.mix(0.75).filled(),
                )
            };
            chart.draw_series(series.points.iter().map(bar)).map_err(wrong)?;
        }
        Kind::Lines | Kind::LogLines => {
            let line = series.points.iter().map(|point| (point.x, point.mean));
            chart.draw_series(LineSeries::new(line, color.stroke_width(2))).map_err(wrong)?;
        }
        Kind::Points => {}
    }
    draw_marks(chart, series, color, place)
}

/// Points with their error bars, and the entry of the legend.
fn draw_marks<B, X>(
    chart: &mut Chart<'_, B, X>,
    series: &Series,
    color: RGBColor,
    place: impl Fn(&Point) -> f64,
) -> Result<()>
where
    B: DrawingBackend,
    X: Ranged<ValueType = f64>,
{
    let wrong = |error: DrawingAreaErrorKind<B::ErrorType>| failed(&error.to_string());
    let spread = series.points.iter().filter(|point| point.n > 1);
    let bars = spread.map(|point| {
        let (low, high) = (point.mean - point.error(), point.mean + point.error());
        ErrorBar::new_vertical(place(point), low, point.mean, high, color.filled(), 7)
    });
    chart.draw_series(bars).map_err(wrong)?;
    let marks = series.points.iter().map(|point| Circle::new((place(point), point.mean), 3, color.filled()));
    chart
        .draw_series(marks)
        .map_err(wrong)?
        .label(&series.name)
        .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 14, y + 4)], color.filled()));
    Ok(())
}

/// A number as an axis shows it: thousands and above by their letter.
fn short(value: &f64) -> String {
    let size = value.abs();
    let (scaled, letter) = match size {
        _ if size >= 1e15 => (value / 1e15, "P"),
        _ if size >= 1e12 => (value / 1e12, "T"),
        _ if size >= 1e9 => (value / 1e9, "G"),
        _ if size >= 1e6 => (value / 1e6, "M"),
        _ if size >= 1e4 => (value / 1e3, "k"),
        _ => (*value, ""),
    };
    let text = format!("{scaled:.3}");
    format!("{}{letter}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(kind: Kind) -> Panel {
        let points = |scale: f64| {
            (1..4).map(|x| Point { x: f64::from(x), mean: scale * f64::from(x), std: 0.3, n: 3 }).collect()
        };
        let series = vec![
            Series { name: "first curve".into(), points: points(1.0) },
            Series { name: "second curve".into(), points: points(-2.0) },
        ];
        Panel { title: "A title".into(), x_label: "along".into(), y_label: "up".into(), kind, series }
    }

    #[test]
    fn every_kind_is_drawn_with_its_words() {
        let groups = ["one", "two", "three", "four"].map(String::from).to_vec();
        for kind in [Kind::Lines, Kind::LogLines, Kind::Points, Kind::Bars(groups)] {
            let text = svg(&[panel(kind.clone())]).unwrap();
            for word in ["A title", "along", "up", "first curve", "second curve"] {
                assert!(text.contains(word), "{kind:?}: {word}");
            }
            assert_eq!(text, svg(&[panel(kind)]).unwrap());
        }
    }

    #[test]
    fn a_picture_has_letters_and_colours() {
        let bytes = png(&[panel(Kind::Lines), panel(Kind::Lines), panel(Kind::Points)]).unwrap();
        let image = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (2 * PANEL.0, 2 * PANEL.1));
        let count = |test: &dyn Fn(&[u8]) -> bool| image.pixels().filter(|pixel| test(&pixel.0)).count();
        let blue = COLORS[0];
        assert!(count(&|p| p == [blue.0, blue.1, blue.2]) > 200);
        // Dark pixels are letters alone: axes are grey.
        assert!(count(&|p| p.iter().all(|&v| v < 60)) > 300);
    }

    #[test]
    fn narrow_logarithmic_axes_can_be_read() {
        let ticks = |xs: &[f64]| {
            let points = xs.iter().map(|&x| Point { x, mean: 1.0, std: 0.0, n: 1 }).collect();
            let series = vec![Series { name: "curve".into(), points }];
            let panel = Panel { series, ..panel(Kind::LogLines) };
            let told = log_ticks(&panel, &ranges(&panel).0).iter().map(short).collect::<Vec<_>>();
            let drawn = svg(&[panel]).unwrap();
            assert!(told.iter().all(|tick| drawn.contains(&format!("\n{tick}\n"))), "{told:?} {drawn}");
            told.join(" ")
        };
        assert_eq!(ticks(&[32.0, 64.0, 128.0, 256.0]), "32 64 128 256");
        assert_eq!(ticks(&[153_600.0, 204_800.0, 1_536_000.0]), "200k 500k 1M");
        assert_eq!(ticks(&[5.26e12, 1.34e13, 5.26e13]), "5T 10T 20T 50T");
        assert_eq!(ticks(&[100.0, 250.0, 333.3, 999.98]), "100 200 500 1000");
        assert_eq!(ticks(&[1.0, 2.0, 4.0, 8.0, 10.0, 16.0, 32.0, 1e4]), "1 10 100 1000 10k");
    }

    #[test]
    fn an_empty_panel_is_a_frame() {
        let empty = Panel { series: Vec::new(), ..panel(Kind::Lines) };
        assert!(svg(&[empty]).unwrap().contains("A title"));
        assert!(svg(&[]).is_ok());
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in
            [(0.5, "0.5"), (0.0, "0"), (12.0, "12"), (51_200.0, "51.2k"), (3.1e12, "3.1T"), (1200.0, "1200")]
        {
            assert_eq!(short(&value), text);
        }
    }
}
