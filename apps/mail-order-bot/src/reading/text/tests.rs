//! The grammar of order lines in text, as tables.

use super::*;
use crate::domain::CustomerProfile;
use crate::reading::body;

fn known(reference: &str) -> bool {
    ["green tea", "00123", "123", "art-001", "art-002", "art-010", "tea pot"]
        .contains(&reference.to_lowercase().as_str())
}

fn found(text: &str) -> TextLines {
    let profile = CustomerProfile::default();
    let reader = TableReader {
        profile: &profile,
        known: &known,
        place: "text".to_owned(),
        positional: false,
    };
    let body = body::split(text, false);
    let letter: Vec<LetterLine<'_>> = body
        .own
        .iter()
        .map(|line| LetterLine {
            line: TextLine {
                number: line.number,
                text: &text[line.range.clone()],
            },
            after_closing: line.after_closing,
        })
        .collect();
    lines(&letter, &reader, 100)
}

fn read(text: &str) -> Vec<(String, String, Option<String>)> {
    let triple = |line: DraftLine| {
        let unit = line.unit.map(|unit| format!(" {unit}")).unwrap_or_default();
        (
            line.article,
            format!("{}{unit}", line.quantity.text),
            line.price.map(|price| price.text),
        )
    };
    found(text).lines.into_iter().map(triple).collect()
}

#[test]
fn every_form_of_the_grammar_is_read() {
    let table: &[(&str, &str, &str, Option<&str>)] = &[
        ("2 x ART-001 @ 12.50", "ART-001", "2", Some("12.50")),
        ("2x ART-001 @12.50 EUR", "ART-001", "2", Some("12.50 EUR")),
        ("2 × ART-001", "ART-001", "2", None),
        ("- 2 x ART-001", "ART-001", "2", None),
        ("-2 x ART-001", "ART-001", "-2", None),
        ("1) 2 x ART-001 at 12.50 each", "ART-001", "2", Some("12.50")),
        ("3 Stück ART-001 à 12,50 €", "ART-001", "3 Stück", Some("12,50 €")),
        ("1,5 kg x ART-007", "ART-007", "1,5 kg", None),
        ("3 pcs ART-001 (green tea)", "ART-001", "3 pcs", None),
        ("4 x green tea", "green tea", "4", None),
        ("ART-001 x 2", "ART-001", "2", None),
        ("ART-001 x 2 @ 3.10", "ART-001", "2", Some("3.10")),
        ("ART-001;2;12,50", "ART-001", "2", Some("12,50")),
        ("ART-001;two;12,50", "ART-001", "two", Some("12,50")),
        ("ART-001|2|12.50", "ART-001", "2", Some("12.50")),
        ("| ART-001 | 2 | 12.50 |", "ART-001", "2", Some("12.50")),
        ("ART-001\t2", "ART-001", "2", None),
        ("ART-001, 2, 12.50", "ART-001", "2", Some("12.50")),
        ("ART-001   2", "ART-001", "2", None),
        ("  ART-001   2 pcs   @ 12.50", "ART-001", "2 pcs", Some("12.50")),
        ("green tea;2", "green tea", "2", None),
        ("ART-001;Green tea;2;12,50", "ART-001", "2", Some("12,50")),
        ("ART-001, 2, thank you", "ART-001", "2", None),
        ("3 Stk ART-001 zu je 12,50 €", "ART-001", "3 Stk", Some("12,50 €")),
        ("2 Kartons ART-001", "ART-001", "2 Kartons", None),
        ("2 boxes of ART-001", "ART-001", "2 boxes", None),
        ("2 boxes of 12 ART-001", "ART-001", "2 boxes of 12", None),
        (
            "2 Kartons à 12 Stück ART-001 @ 4,50",
            "ART-001",
            "2 Kartons à 12 Stück",
            Some("4,50"),
        ),
        ("2 x 6er ART-001", "ART-001", "2 x 6er", None),
        ("10 × 00123", "00123", "10", None),
        ("10 x 00123 paper filters", "00123", "10", None),
        ("5 ART-001", "ART-001", "5", None),
        ("5 green tea", "green tea", "5", None),
        ("ART-001 5", "ART-001", "5", None),
        ("ART-001 5 Stk.", "ART-001", "5 Stk", None),
        ("ART-001: 5 Stk", "ART-001", "5 Stk", None),
        ("Green tea - 5", "Green tea", "5", None),
        ("ART-001 ......... 5", "ART-001", "5", None),
        ("ART-001 green tea 100 g 5 pcs", "ART-001", "5 pcs", None),
        ("Green tea (ART-001): 3", "ART-001", "3", None),
        ("Art.-Nr. ART-001 x 3", "ART-001", "3", None),
        ("10  ART-001  Green tea  20 ST  4,50", "ART-001", "20 ST", Some("4,50")),
        (
            "ART-001 | Green tea | 24.12.2026 | 5 | Stk | 4,50",
            "ART-001",
            "5 Stk",
            Some("4,50"),
        ),
        ("ART-001, green tea, 2 pcs", "ART-001", "2 pcs", None),
        ("Bitte 5 x ART-001", "ART-001", "5", None),
        ("We need 10 pcs of ART-001.", "ART-001", "10 pcs", None),
        (
            "Je voudrais 3 pièces de ART-001 à 4,50 € l'unité",
            "ART-001",
            "3 pièces",
            Some("4,50 €"),
        ),
        ("12 st ART-001 à 4,50", "ART-001", "12 st", Some("4,50")),
        ("5 x ART-002 3.95 EUR each", "ART-002", "5", Some("3.95 EUR")),
        (
            "5 x ART-002 green tea, EUR 3.95 per piece",
            "ART-002",
            "5",
            Some("EUR 3.95"),
        ),
        ("5 x ART-002 (3,95€ das Stück", "ART-002", "5", Some("3,95€")),
        // It may be the sum of the line.
        ("5 x ART-002 19.50 EUR", "ART-002", "5", None),
        ("ART-001 — 10 шт.", "ART-001", "10 шт", None),
        ("2 х ART-001", "ART-001", "2", None),
    ];
    for (line, article, quantity, price) in table {
        let price = price.map(str::to_owned);
        let read: Vec<_> = read(line)
            .into_iter()
            .map(|(a, q, p)| (a, q, p.map(|price| price.trim().to_owned())))
            .collect();
        assert_eq!(
            read,
            vec![((*article).to_owned(), (*quantity).to_owned(), price)],
            "{line:?}"
        );
    }
}

#[test]
fn several_orders_stand_on_one_line() {
    let articles = |text: &str| {
        read(text)
            .into_iter()
            .map(|(article, quantity, _)| format!("{article}*{quantity}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(
        articles("2 x ART-001, 3 x ART-002 and 1 x ART-010"),
        "ART-001*2 ART-002*3 ART-010*1"
    );
    assert_eq!(
        articles("Bitte 2 Stk ART-001 und 3 Stk ART-002!"),
        "ART-001*2 Stk ART-002*3 Stk"
    );
    assert_eq!(articles("please send 5 green tea & 1 tea pot"), "green tea*5 tea pot*1");
    assert_eq!(articles("ART-001: 2, ART-002: 3"), "ART-001*2 ART-002*3");
    assert_eq!(
        articles("Hi, pls send 5 x ART-001, 3 x ART-002 and 1 x ART-010, same address. Tom"),
        "ART-001*5 ART-002*3 ART-010*1"
    );
    assert_eq!(
        articles("Bom dia, queríamos 6 x ART-001 e 4 x ART-002, por favor."),
        "ART-001*6 ART-002*4"
    );
    assert_eq!(articles("Also 2 x ART-001"), "ART-001*2");
    assert_eq!(articles("1 Gebinde 00123"), "00123*1 Gebinde");
}

#[test]
fn prose_quotes_and_signatures_are_not_orders() {
    for text in [
        "Thank you for the 2 parcels, all fine.",
        "2 x coffee yesterday, it was great",
        "Tel  0123 456789",
        "Date  2024-01-02",
        "> 2 x ART-001",
        "-- \n2 x ART-001",
        "On Monday Jane wrote:\n2 x ART-001",
        "-----Original Message-----\nART-001;2",
        "see you at 10 x",
        "https://example.com/ART-001?x=2",
        "",
        "ART-001  24.12.2026",
        "Best regards\nJane\nRoom B12, 3 floors up\nVAT GB123456789, 1",
        "3 of us will come",
        "tel. 22 123 45 67",
        "I got 2 x ART-001",
        "We ordered 2 x ART-001, 3 arrived",
        "I bought 2 of them last week: ART-001",
        "Total: 12.50",
    ] {
        assert_eq!(read(text), Vec::new(), "{text:?}");
    }
}

#[test]
fn a_line_that_may_be_meant_is_not_dropped_in_silence() {
    let found = found("2 x ART-001\nand as for ART-002 we would take around 12 if they are fresh\n");
    assert_eq!((found.lines.len(), found.unclear.len()), (1, 1));
    assert!(found.notes()[0].contains("ART-002"), "{:?}", found.notes());
}

#[test]
fn one_certain_line_makes_the_uncertain_ones_count() {
    let found = read("2 x ART-001\n3 x blue mugs\n");
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].0, "blue mugs");
}

#[test]
fn what_is_not_taken_is_explained() {
    let found = found("2 x ART-001\nART-002  24.12.2026\nBest regards\nSuite B7, 2 left\n");
    let whys: Vec<String> = found.explanation.steps.iter().map(|step| format!("{step:?}")).collect();
    assert_eq!(found.lines.len(), 1);
    assert!(whys.iter().any(|why| why.contains("a date stands")), "{whys:?}");
}
