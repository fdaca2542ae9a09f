//! Converts a drawing to three formats.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::page::{FONT, FONT_NAME, Figure, UNITS_PER_INCH};
use crate::error::{ReportError, Result};

/// Dots per inch of a PNG.
pub const PNG_DPI: f64 = 300.0;

/// A file format of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Pixels at 300 dpi.
    Png,
    /// Vector graphics.
    Svg,
    /// Vector graphics for LaTeX.
    Pdf,
}

impl Format {
    /// The file name extension.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Svg => "svg",
            Self::Pdf => "pdf",
        }
    }
}

impl Figure {
    /// The figure as a file of this format.
    ///
    /// # Errors
    /// If the drawing cannot be converted.
    pub fn bytes(&self, format: Format) -> Result<Vec<u8>> {
        match format {
            Format::Svg => Ok(self.svg.clone().into_bytes()),
            Format::Png => self.png(),
            Format::Pdf => self.pdf(),
        }
    }

    /// The drawing for the renderers: sizes in drawing units, only the embedded font.
    fn tree(&self) -> Result<usvg::Tree> {
        static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
        let fonts = FONTS.get_or_init(|| {
            let mut fonts = fontdb::Database::new();
            fonts.load_font_data(FONT.to_vec());
            fonts.set_sans_serif_family(FONT_NAME);
            Arc::new(fonts)
        });
        let options = usvg::Options {
            fontdb: Arc::clone(fonts),
            font_family: FONT_NAME.into(),
            dpi: UNITS_PER_INCH as f32,
            ..usvg::Options::default()
        };
        usvg::Tree::from_str(&self.svg, &options).map_err(|e| ReportError::figure(&self.name, e))
    }

    fn png(&self) -> Result<Vec<u8>> {
        let tree = self.tree()?;
        let scale = (PNG_DPI / UNITS_PER_INCH) as f32;
        let pixels = |length: f32| (length * scale).round().max(1.0) as u32;
        let mut pixmap = Pixmap::new(pixels(tree.size().width()), pixels(tree.size().height()))
            .ok_or_else(|| ReportError::figure(&self.name, "too large for a PNG"))?;
        resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
        let png = pixmap.encode_png().map_err(|e| ReportError::figure(&self.name, e))?;
        Ok(with_resolution(png))
    }

    fn pdf(&self) -> Result<Vec<u8>> {
        let page = svg2pdf::PageOptions { dpi: UNITS_PER_INCH as f32 };
        let pdf = svg2pdf::to_pdf(&self.tree()?, svg2pdf::ConversionOptions::default(), page)
            .map_err(|e| ReportError::figure(&self.name, format!("{e:?}")))?;
        Ok(with_sorted_resources(&pdf))
    }
}

/// Sorts the names within each resource dictionary, which the PDF library writes in a hash map's order that changes with
/// every run. Lines are only swapped within a dictionary, so that the offsets of objects stay valid.
fn with_sorted_resources(pdf: &[u8]) -> Vec<u8> {
    // A name and a reference: `/gs12 19 0 R`.
    let is_entry = |line: &[u8]| {
        let words: Vec<&[u8]> = line.trim_ascii_start().split(|b| *b == b' ').collect();
        matches!(words[..], [[b'/', _, ..], number, b"0", b"R"] if number.iter().all(u8::is_ascii_digit))
    };
    let mut lines: Vec<&[u8]> = pdf.split(|b| *b == b'\n').collect();
    for run in lines.chunk_by_mut(|a, b| is_entry(a) && is_entry(b)) {
        run.sort_unstable_by_key(|line| (line.len(), *line));
    }
    lines.join(&b'\n')
}

/// Adds the chunk with the resolution, so that a PNG is printed at its size. It goes between the header (8 bytes
/// of signature and 25 of the first chunk) and the pixels.
fn with_resolution(mut png: Vec<u8>) -> Vec<u8> {
    const HEADER_END: usize = 8 + 25;
    let per_metre = (PNG_DPI / 0.0254).round() as u32;
    let mut chunk = b"pHYs".to_vec();
    chunk.extend(per_metre.to_be_bytes());
    chunk.extend(per_metre.to_be_bytes());
    chunk.push(1);
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    let whole: Vec<u8> = [&length[..], &chunk, &crc.sum().to_be_bytes()].concat();
    if png.len() > HEADER_END {
        png.splice(HEADER_END..HEADER_END, whole);
    }
    png
}
