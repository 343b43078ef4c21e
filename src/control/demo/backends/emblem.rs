//! A game's colour and emblem, made from its name alone: three rings with
//! gaps, like the discs of a lock, around a shape.

use std::fmt::Write as _;

/// Rings a game can have: dash and gap on a circle of 12 units. Every pair
/// divides 12, so that the pattern closes.
const RINGS: [(u8, u8); 8] = [(9, 3), (5, 1), (4, 2), (3, 1), (2, 1), (11, 1), (10, 2), (3, 3)];
/// Radius and width of the rings, from the outside in.
const PLACES: [(u8, u8); 3] = [(43, 6), (32, 6), (21, 6)];
/// Any number would do; with this one the two shipped games lie far apart.
const SEED: u64 = 274;
const SHAPES: [&str; 4] = [
    "<circle cx='48' cy='48' r='8'/>",
    "<rect x='41' y='41' width='14' height='14'/>",
    "<path d='M48 38l10 10-10 10-10-10z'/>",
    "<path d='M48 38.5l9.5 16.5h-19z'/>",
];

/// A colour's hue in degrees of OKLCH, one of 20. Reds are left out: a red page
/// looks like an alarm.
pub(super) fn hue(name: &str) -> u64 {
    55 + dice(name) % 20 * 15
}

/// An SVG drawing in `colour`.
pub(super) fn svg(name: &str, colour: &str) -> String {
    // The low bits chose the colour.
    let mut dice = dice(name) >> 8;
    let mut roll = |sides: u64| {
        let face = dice % sides;
        dice /= sides;
        face
    };
    let mut svg = String::with_capacity(800);
    let _ = write!(
        svg,
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 96 96' aria-hidden='true' \
         fill='{colour}' stroke='none'>"
    );
    for (radius, width) in PLACES {
        let (dash, gap) = pick(&RINGS, roll(RINGS.len() as u64)).unwrap_or((11, 1));
        let turn = roll(12) * 30;
        let _ = write!(
            svg,
            "<circle cx='48' cy='48' r='{radius}' fill='none' stroke='{colour}' \
             stroke-width='{width}' pathLength='12' stroke-dasharray='{dash} {gap}' \
             transform='rotate({turn} 48 48)'/>"
        );
    }
    svg.push_str(pick(&SHAPES, roll(SHAPES.len() as u64)).unwrap_or_default());
    svg.push_str("</svg>");
    svg
}

/// The same as the address of an image.
pub(super) fn icon(name: &str) -> String {
    // Neither the page's colour scheme nor its style reaches an icon: a middle
    // lightness shows on light and dark.
    let svg = svg(name, &format!("oklch(0.66 0.15 {})", hue(name)));
    let mut url = String::with_capacity(svg.len() * 2);
    for c in svg.chars() {
        match c {
            '<' => url.push_str("%3C"),
            '>' => url.push_str("%3E"),
            ' ' => url.push_str("%20"),
            '#' => url.push_str("%23"),
            '%' => url.push_str("%25"),
            c => url.push(c),
        }
    }
    url
}

fn pick<T: Copy>(from: &[T], index: u64) -> Option<T> {
    from.get(usize::try_from(index).ok()?).copied()
}

/// Spreads names that differ in one letter over the whole range (FNV-1a, then
/// the mixer of SplitMix64).
fn dice(name: &str) -> u64 {
    let mut n = 0xcbf2_9ce4_8422_2325_u64 ^ SEED;
    for byte in name.bytes() {
        n = (n ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn games_look_unlike_and_always_the_same() {
        assert!(hue("youxia").abs_diff(hue("youxib")) >= 120);
        assert_ne!(svg("youxia", "red"), svg("youxib", "red"));
        assert_eq!(svg("youxia", "red"), svg("youxia", "red"));
    }

    #[test]
    fn an_icon_needs_no_escaping_in_an_attribute() {
        let icon = icon("any <game> \"at\" all & more");
        assert!(!icon.contains(['<', '>', '"', '&', ' ', '#']), "{icon}");
    }
}
