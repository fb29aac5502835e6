//! The property type `coordinate`: `"52.52,13.40"`, `[52.52, 13.40]` or `{"latitude": 52.52,
//! "longitude": 13.40}`, latitude first.

use serde_json::{Map, Value};

use super::check::{Path, Report, Shown};
use super::compile::Constraints;
use super::decimal::{Decimal, Limit};

const COORDINATE: &str = r#"a coordinate ("lat,lon", [lat, lon] or {"latitude", "longitude"})"#;

/// Constraints of a `coordinate`.
#[derive(Debug, Clone)]
pub struct CoordinateType {
    bounding_box: Option<BoundingBox>,
    precision: Option<u64>,
}

/// South-west and north-east corner. West may be greater than east: then the box crosses the
/// antimeridian.
#[derive(Debug, Clone)]
struct BoundingBox {
    south: Limit,
    west: Limit,
    north: Limit,
    east: Limit,
}

#[derive(Clone, Copy)]
enum Axis {
    Latitude,
    Longitude,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Axis::Latitude => "latitude",
            Axis::Longitude => "longitude",
        }
    }

    /// Its name and largest absolute value, in degrees.
    fn reach(self) -> (&'static str, &'static str) {
        match self {
            Axis::Latitude => ("-90", "90"),
            Axis::Longitude => ("-180", "180"),
        }
    }

    fn contains(self, number: Decimal<'_>) -> bool {
        let (low, high) = self.reach();
        Decimal::parse(low).is_some_and(|low| low <= number)
            && Decimal::parse(high).is_some_and(|high| number <= high)
    }

    /// The axis of an object's key.
    fn of_key(key: &str) -> Option<Self> {
        match key {
            "latitude" | "lat" => Some(Axis::Latitude),
            "longitude" | "lon" | "lng" => Some(Axis::Longitude),
            _ => None,
        }
    }
}

impl CoordinateType {
    pub(super) fn compile(c: &mut Constraints<'_>) -> Self {
        let expected = "[min_lat, min_lon, max_lat, max_lon] or an object of these, in degrees";
        let this = Self {
            bounding_box: c.parsed("bounding_box", expected, BoundingBox::parse),
            precision: c.count("precision"),
        };
        if let Some(b) = &this.bounding_box
            && b.south > b.north
        {
            let message = format_args!("`min_lat` must not be greater than `max_lat`");
            c.fault("bounding_box", "range", message);
        }
        this
    }

    pub(super) fn check(&self, value: &Value, at: &Path<'_>, report: &mut Report) {
        let before = report.len();
        let (latitude, longitude) = match value {
            Value::String(text) => {
                let Some((latitude, longitude)) = text.split_once(',') else {
                    let message = format_args!("`{}` is not {COORDINATE}", Shown(text));
                    return report.add(at, "type", message);
                };
                (
                    self.check_degrees(Axis::Latitude, latitude.trim(), at, report),
                    self.check_degrees(Axis::Longitude, longitude.trim(), at, report),
                )
            }
            Value::Array(items) => match items.as_slice() {
                [latitude, longitude] => (
                    self.check_number(Axis::Latitude, latitude, &at.index(0), report),
                    self.check_number(Axis::Longitude, longitude, &at.index(1), report),
                ),
                _ => {
                    let message = format_args!("must have two items: latitude and longitude");
                    return report.add(at, "type", message);
                }
            },
            Value::Object(object) => self.check_object(object, at, report),
            _ => return report.wrong_type(at, COORDINATE, value),
        };
        if report.len() == before
            && let (Some(bounds), Some(latitude), Some(longitude)) =
                (&self.bounding_box, latitude, longitude)
            && !bounds.contains(latitude, longitude)
        {
            let message = format_args!("must lie in the bounding box {bounds}");
            report.add(at, "bounding_box", message);
        }
    }

    fn check_object<'a>(
        &self,
        object: &'a Map<String, Value>,
        at: &Path<'_>,
        report: &mut Report,
    ) -> (Option<Decimal<'a>>, Option<Decimal<'a>>) {
        let mut found = [false; 2];
        let mut degrees = [None; 2];
        for (key, value) in object {
            let at = at.key(key);
            let Some(axis) = Axis::of_key(key) else {
                let message = format_args!("a coordinate has `latitude` and `longitude`");
                report.add(&at, "unknown_property", message);
                continue;
            };
            if found[axis as usize] {
                let message = format_args!("the {} is given twice", axis.name());
                report.add(&at, "duplicate", message);
                continue;
            }
            found[axis as usize] = true;
            degrees[axis as usize] = self.check_number(axis, value, &at, report);
        }
        for axis in [Axis::Latitude, Axis::Longitude] {
            if !found[axis as usize] {
                let at = at.key(axis.name());
                report.add(&at, "required", format_args!("is required"));
            }
        }
        (degrees[0], degrees[1])
    }

    fn check_number<'a>(
        &self,
        axis: Axis,
        value: &'a Value,
        at: &Path<'_>,
        report: &mut Report,
    ) -> Option<Decimal<'a>> {
        match value {
            Value::Number(number) => self.check_degrees(axis, number.as_str(), at, report),
            _ => {
                report.wrong_type(at, "a number", value);
                None
            }
        }
    }

    fn check_degrees<'a>(
        &self,
        axis: Axis,
        text: &'a str,
        at: &Path<'_>,
        report: &mut Report,
    ) -> Option<Decimal<'a>> {
        let name = axis.name();
        let Some(degrees) = Decimal::parse(text) else {
            let message = format_args!("`{}` is not a {name}", Shown(text));
            report.add(at, "type", message);
            return None;
        };
        if !axis.contains(degrees) {
            let (low, high) = axis.reach();
            let message = format_args!("the {name} must be from {low} to {high}");
            report.add(at, "range", message);
        }
        if let Some(places) = self.precision
            && degrees.decimal_places() as u64 > places
        {
            let message = format_args!("the {name} must have at most {places} decimal places");
            report.add(at, "precision", message);
        }
        Some(degrees)
    }
}

impl BoundingBox {
    fn parse(value: &Value) -> Option<Self> {
        let [south, west, north, east] = match value {
            Value::Array(items) => match items.as_slice() {
                [south, west, north, east] => [south, west, north, east],
                _ => return None,
            },
            Value::Object(object) if object.len() == 4 => {
                let corner = |key: &str| object.get(key);
                [
                    corner("min_lat")?,
                    corner("min_lon")?,
                    corner("max_lat")?,
                    corner("max_lon")?,
                ]
            }
            _ => return None,
        };
        let degrees = |axis: Axis, value: &Value| match value {
            Value::Number(number) => {
                Limit::parse(number.as_str()).filter(|limit| axis.contains(limit.get()))
            }
            _ => None,
        };
        Some(Self {
            south: degrees(Axis::Latitude, south)?,
            west: degrees(Axis::Longitude, west)?,
            north: degrees(Axis::Latitude, north)?,
            east: degrees(Axis::Longitude, east)?,
        })
    }

    fn contains(&self, latitude: Decimal<'_>, longitude: Decimal<'_>) -> bool {
        let (west, east) = (self.west.get(), self.east.get());
        let between = if west <= east {
            west <= longitude && longitude <= east
        } else {
            west <= longitude || longitude <= east
        };
        self.south.get() <= latitude && latitude <= self.north.get() && between
    }
}

impl std::fmt::Display for BoundingBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            south,
            west,
            north,
            east,
        } = self;
        write!(f, "[{south}, {west}, {north}, {east}]")
    }
}
