//! Units of quantity in the words of many languages, and how one is counted in another. What an article's packages hold
//! is the catalogue's.

use super::quantity::Quantity;

/// What a unit measures. Units of one dimension convert into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    /// Single things.
    Count,
    /// Milligrams.
    Mass,
    /// Millilitres.
    Volume,
    /// Millimetres.
    Length,
    /// What holds several things: how many, only the catalogue or the customer can say.
    Package,
}

/// A unit that is known by its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unit {
    /// Its one name, whatever the language: `pcs`, `kg`, `box`.
    pub name: &'static str,
    dimension: Dimension,
    /// How many of the dimension's smallest unit it is; 1 for packages.
    factor: i64,
}

/// Each unit with the words for it in English, German, French, Spanish, Italian, Dutch, Polish, Portuguese, Czech and
/// Swedish, and the commonest in some more languages; lower case, without a final point.
#[rustfmt::skip]
const UNITS: &[(&str, Dimension, i64, &[&str])] = &[
    ("pcs", Dimension::Count, 1, &[
        "pcs", "pc", "pce", "pces", "piece", "pieces", "ea", "each", "unit", "units", "no", "nos", "stk", "stck", "st",
        "stück", "stueck", "stücke", "pièce", "pièces", "pieza", "piezas", "ud", "uds", "unidad", "unidades", "pz",
        "pzz", "pezzo", "pezzi", "stuk", "stuks", "szt", "sztuk", "sztuka", "sztuki", "un", "unid", "unidade", "peça",
        "peças", "ks", "kus", "kusy", "kusů", "styck", "stycken", "stycke", "kpl", "kappaletta", "stykker", "db", "darab", "buc",
        "bucăți", "adet", "kom", "vnt", "gab", "шт", "штук", "штука", "штуки", "τεμ", "τεμάχια", "個", "个", "件",
    ]),
    ("dozen", Dimension::Count, 12, &[
        "dozen", "dozens", "doz", "dz", "dtz", "dzd", "dutzend", "douzaine", "douzaines", "docena", "docenas",
        "dozzina", "dozzine", "dozijn", "tuzin", "tuziny", "tuzinów", "dúzia", "dúzias", "tucet", "tucty", "tuctů",
        "dussin",
    ]),
    ("mg", Dimension::Mass, 1, &[
        "mg",
    ]),
    ("g", Dimension::Mass, 1_000, &[
        "g", "gr", "gram", "grams", "gramm", "gramme", "grammes", "gramo", "gramos", "grammi", "г",
    ]),
    ("kg", Dimension::Mass, 1_000_000, &[
        "kg", "kgs", "kgm", "kilo", "kilos", "kilogram", "kilograms", "kilogramm", "kilogramme", "kilogrammes",
        "kilogramo", "kilogramos", "chilo", "chili", "кг", "公斤",
    ]),
    ("t", Dimension::Mass, 1_000_000_000, &[
        "t", "to", "tonne", "tonnes", "tonnen",
    ]),
    ("ml", Dimension::Volume, 1, &[
        "ml",
    ]),
    ("cl", Dimension::Volume, 10, &[
        "cl",
    ]),
    ("l", Dimension::Volume, 1_000, &[
        "l", "lt", "ltr", "liter", "liters", "litre", "litres", "litro", "litros", "litri", "litr", "litry", "litrów", "л",
    ]),
    ("hl", Dimension::Volume, 100_000, &[
        "hl",
    ]),
    ("mm", Dimension::Length, 1, &[
        "mm",
    ]),
    ("cm", Dimension::Length, 10, &[
        "cm",
    ]),
    ("m", Dimension::Length, 1_000, &[
        "m", "mtr", "meter", "meters", "metre", "metres", "mètre", "mètres", "metro", "metros", "metri",
    ]),
    ("box", Dimension::Package, 1, &[
        "box", "boxes", "bx", "carton", "cartons", "ctn", "ctns", "cs", "case", "cases", "karton", "kartons",
        "kartone", "krt", "kt", "kiste", "kisten", "caja", "cajas", "scatola", "scatole", "cartone", "cartoni", "doos",
        "kartony", "kartonów", "caixa", "caixas", "boîte", "boîtes", "boite", "boites", "pudełko", "pudełka", "krabice", "krabic", "kartón", "kartong", "kartonger", "låda",
        "lådor", "laatikko", "laatikkoa", "коробка", "коробки", "коробок", "箱",
    ]),
    ("pack", Dimension::Package, 1, &[
        "pack", "packs", "pk", "pkg", "package", "packages", "packet", "packets", "packung", "packungen", "pckg",
        "pkt", "paket", "pakete", "päckchen", "ve", "vpe", "pu", "paquet", "paquets", "paquete", "paquetes",
        "confezione", "confezioni", "conf", "pak", "pakken", "verpakking", "opakowanie", "opakowania", "opakowań",
        "opak", "op", "pacote", "pacotes", "embalagem", "balení", "bal", "förpackning", "förpackningar", "förp",
        "er-pack",
    ]),
    ("pallet", Dimension::Package, 1, &[
        "pallet", "pallets", "palette", "paletten", "palettes", "pal", "paleta", "paletas", "palety", "palet", "pall",
        "pallar", "bancale", "bancali",
    ]),
    ("bag", Dimension::Package, 1, &[
        "bag", "bags", "sack", "sacks", "säcke", "beutel", "sac", "sacs", "saco", "sacos", "bolsa", "bolsas", "sacco",
        "sacchi", "zak", "zakken", "worek", "worki", "worków", "pytel", "pytle", "pytlů", "säck", "säckar", "påse",
        "påsar",
    ]),
    ("bottle", Dimension::Package, 1, &[
        "bottle", "bottles", "btl", "flasche", "flaschen", "fl", "bouteille", "bouteilles", "botella", "botellas",
        "bottiglia", "bottiglie", "fles", "flessen", "butelka", "butelki", "butelek", "garrafa", "garrafas", "láhev",
        "lahve", "lahví", "flaska", "flaskor",
    ]),
    ("roll", Dimension::Package, 1, &[
        "roll", "rolls", "rolle", "rollen", "rouleau", "rouleaux", "rollo", "rollos", "rotolo", "rotoli", "rol",
        "rolka", "rolki", "rolo", "rolos", "role", "rolí", "rulle", "rullar",
    ]),
    ("pair", Dimension::Package, 1, &[
        "pair", "pairs", "pr", "paar", "paire", "paires", "paio", "paia", "pár", "páry",
    ]),
    ("set", Dimension::Package, 1, &[
        "set", "sets", "satz", "sätze", "jeu", "juego", "juegos", "zestaw", "zestawy", "sada", "sady",
    ]),
];

/// The unit that `word` means, if it is known.
#[must_use]
pub fn unit(word: &str) -> Option<Unit> {
    let word = word.trim().trim_end_matches('.').to_lowercase();
    // `Karton(s)`, `Stück/VE` and the like are left to whoever wrote them.
    let (name, dimension, factor, _) = UNITS.iter().find(|(.., words)| words.contains(&word.as_str()))?;
    Some(Unit {
        name,
        dimension: *dimension,
        factor: *factor,
    })
}

impl Unit {
    /// Whether it holds a number of things that only the catalogue or the customer can say.
    #[must_use]
    pub fn is_package(self) -> bool {
        self.dimension == Dimension::Package
    }

    /// Whether it is the plain piece.
    #[must_use]
    pub fn is_piece(self) -> bool {
        self.name == "pcs"
    }

    /// `amount` of this unit in `other`; `None` when one can't be counted in the other, or not in whole thousandths.
    #[must_use]
    pub fn convert(self, amount: Quantity, other: Self) -> Option<Quantity> {
        if self.name == other.name {
            return Some(amount);
        }
        if self.dimension != other.dimension || self.is_package() {
            return None;
        }
        let exact = i128::from(amount.thousandths()) * i128::from(self.factor);
        let divisor = i128::from(other.factor);
        if exact % divisor != 0 {
            return None;
        }
        i64::try_from(exact / divisor).ok().map(Quantity::from_thousandths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_known_in_many_languages_and_no_word_means_two() {
        for (word, name) in [
            ("Stk.", "pcs"),
            ("pièces", "pcs"),
            ("SZT.", "pcs"),
            ("Kartons", "box"),
            ("KG", "kg"),
            ("Dutzend", "dozen"),
            ("VPE", "pack"),
            ("kusů", "pcs"),
            ("kpl", "pcs"),
            ("шт.", "pcs"),
            ("個", "pcs"),
        ] {
            assert_eq!(unit(word).map(|unit| unit.name), Some(name), "{word}");
        }
        assert_eq!(unit("thanks"), None);
        let mut words: Vec<&str> = UNITS.iter().flat_map(|(.., words)| words.iter().copied()).collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
    }

    #[test]
    fn units_of_one_dimension_convert_exactly_or_not_at_all() {
        let convert = |amount: i64, from: &str, to: &str| {
            let converted = unit(from)
                .unwrap()
                .convert(Quantity::from_thousandths(amount), unit(to).unwrap());
            converted.map(Quantity::thousandths)
        };
        assert_eq!(convert(500_000, "g", "kg"), Some(500));
        assert_eq!(convert(2_000, "dozen", "pcs"), Some(24_000));
        assert_eq!(convert(1_500, "kg", "g"), Some(1_500_000));
        assert_eq!(convert(1, "g", "kg"), None, "less than a thousandth");
        assert_eq!(convert(1_000, "kg", "pcs"), None);
        assert_eq!(convert(1_000, "box", "pallet"), None);
        assert_eq!(convert(i64::MAX, "t", "mg"), None);
    }
}
