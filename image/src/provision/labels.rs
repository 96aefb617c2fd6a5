//! A sheet of labels to stick on devices: name, serial number, and a QR code that says who it is. A4, 24 labels of 70 × 37 mm a page, as label
//! paper is sold. Nothing on it is secret.

use super::ledger::{Issued, Ledger};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str};
use qrcodegen::{QrCode, QrCodeEcc};
use std::io::Write;

pub const FILE: &str = "labels.pdf";

/// Millimetres to PDF's points.
const MM: f32 = 72.0 / 25.4;
const PAGE: (f32, f32) = (210.0 * MM, 297.0 * MM);
const COLUMNS: usize = 3;
const ROWS: usize = 8;
const LABEL: (f32, f32) = (70.0 * MM, 37.0 * MM);
/// What 8 labels leave of a page above and below.
const MARGIN: f32 = (297.0 - 8.0 * 37.0) / 2.0 * MM;
const CODE: f32 = 29.0 * MM;
const PADDING: f32 = 4.0 * MM;

const CATALOG: Ref = Ref::new(1);
const PAGES: Ref = Ref::new(2);
const BOLD: Ref = Ref::new(3);
const PLAIN: Ref = Ref::new(4);
/// A page and its content are two each.
const FIRST_PAGE: i32 = 5;

/// What a scanner reads.
pub fn text(issued: &Issued) -> String {
    let fields = [
        ("serial", issued.serial.as_ref()),
        ("key", issued.public_key_sha256.as_ref()),
        ("token", issued.token.as_ref().map(|token| &token.id)),
    ];
    let said: Vec<String> =
        fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))).collect();
    format!("kedge:device/{}?{}", issued.name, said.join("&"))
}

/// The labels of all devices that are not revoked.
pub fn sheet(ledger: &Ledger) -> Vec<u8> {
    let devices: Vec<&Issued> = ledger.devices().filter(|issued| !ledger.is_revoked(&issued.name)).collect();
    let mut pdf = Pdf::new();
    pdf.catalog(CATALOG).pages(PAGES);
    pdf.type1_font(BOLD).base_font(Name(b"Helvetica-Bold"));
    pdf.type1_font(PLAIN).base_font(Name(b"Helvetica"));
    // A document needs a page, labels or not.
    let pages: Vec<&[&Issued]> = if devices.is_empty() { vec![&[]] } else { devices.chunks(COLUMNS * ROWS).collect() };
    let mut kids = Vec::new();
    for (reference, labels) in (FIRST_PAGE..).step_by(2).zip(pages) {
        let (page, content) = (Ref::new(reference), Ref::new(reference + 1));
        kids.push(page);
        let mut writer = pdf.page(page);
        writer.parent(PAGES).media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1)).contents(content);
        writer.resources().fonts().pair(Name(b"B"), BOLD).pair(Name(b"P"), PLAIN);
        writer.finish();
        let bytes = deflate(&draw(labels));
        pdf.stream(content, &bytes).filter(Filter::FlateDecode);
    }
    let count = i32::try_from(kids.len()).unwrap_or(i32::MAX);
    pdf.pages(PAGES).kids(kids).count(count);
    pdf.finish()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn draw(labels: &[&Issued]) -> Vec<u8> {
    let mut content = Content::new();
    for (at, issued) in labels.iter().enumerate() {
        let left = (at % COLUMNS) as f32 * LABEL.0;
        let bottom = PAGE.1 - MARGIN - (at / COLUMNS + 1) as f32 * LABEL.1;
        code(&mut content, &text(issued), (left + PADDING, bottom + PADDING));
        let beside = left + PADDING + CODE + 2.0 * MM;
        let mut y = bottom + LABEL.1 - PADDING - 3.0 * MM;
        for (font, size, line) in lines(issued) {
            content.begin_text().set_font(Name(font), size).next_line(beside, y).show(Str(line.as_bytes())).end_text();
            y -= size * 1.35;
        }
    }
    content.finish().into_vec()
}

/// Letters that fit beside the code: by count, since a Helvetica letter is about half as wide as high.
fn lines(issued: &Issued) -> Vec<(&'static [u8], f32, String)> {
    let wrapped = |font: &'static [u8], size: f32, text: &str| -> Vec<(&'static [u8], f32, String)> {
        let width = LABEL.0 - CODE - 2.0 * PADDING;
        let fits = (width / (size * 0.58)).max(1.0) as usize;
        let letters: Vec<char> = text.chars().collect();
        letters.chunks(fits).take(3).map(|line| (font, size, line.iter().collect())).collect()
    };
    let mut all = wrapped(b"B", 9.0, &issued.name);
    for (title, value) in [("serial", &issued.serial), ("token", &issued.token.as_ref().map(|token| token.id.clone()))]
    {
        if let Some(value) = value {
            all.extend(wrapped(b"P", 6.0, title));
            all.extend(wrapped(b"P", 6.0, value));
        }
    }
    for (key, value) in issued.labels.iter().take(3) {
        all.extend(wrapped(b"P", 6.0, &format!("{key}: {value}")));
    }
    all
}

/// The code in a square of [`CODE`], dark modules in rows as long as they run, the quiet zone being the label's own margin.
fn code(content: &mut Content, text: &str, (left, bottom): (f32, f32)) {
    // Longer than any device's text may be is longer than the largest code: then there is none.
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Medium) else { return };
    let module = CODE / code.size() as f32;
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let run = (x..code.size()).take_while(|at| code.get_module(*at, y)).count() as i32;
            if run > 0 {
                let from_top = (code.size() - 1 - y) as f32;
                content.rect(left + x as f32 * module, bottom + from_top * module, run as f32 * module, module);
            }
            x += run + 1;
        }
    }
    content.fill_nonzero();
}
