//! A catalogue from a CSV file: UTF-8 (with or without byte order mark), separated by comma, semicolon or tab
//! (whichever the heading uses most), quoted as in RFC 4180.

use super::row::Heading;
use super::{Catalogue, CatalogueBuilder, CatalogueError};

pub(super) fn load(bytes: &[u8], origin: &str) -> Result<Catalogue, CatalogueError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let heading_line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |separator: u8| heading_line.iter().filter(|byte| **byte == separator).count();
    let delimiter = [b',', b';', b'\t']
        .into_iter()
        .rev()
        .max_by_key(|separator| count(*separator))
        .unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes);

    let mut builder = None;
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            let problem = format!("it is not valid CSV in UTF-8: {error}");
            CatalogueError::Row {
                place: format!("{origin}:{line}"),
                problem,
            }
        })?;
        let place = format!("{origin}:{}", record.position().map_or(1, csv::Position::line));
        match &mut builder {
            None => {
                let heading = Heading::new(&record).map_err(|problem| CatalogueError::Row { place, problem })?;
                builder = Some(CatalogueBuilder::new(heading));
            }
            Some(builder) => builder.add(&record.iter().map(str::to_owned).collect::<Vec<_>>(), place)?,
        }
    }
    match builder {
        Some(builder) => builder.finish(origin),
        None => Err(CatalogueError::Row {
            place: format!("{origin}:1"),
            problem: "there is no column `article`: the file is empty".to_owned(),
        }),
    }
}
