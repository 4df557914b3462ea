//! The words that stand above the columns of orders, and before the values of forms, in ten languages.

/// The fields of an order line that a table can have a column for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Number or name of the article.
    Article,
    /// How many.
    Quantity,
    /// Of what.
    Unit,
    /// The price per unit.
    Price,
    /// What stands beside the article's number.
    Name,
    /// The currency of the price.
    Currency,
}

impl Field {
    /// All of them.
    #[cfg(test)]
    const ALL: [Self; 6] = [
        Self::Article,
        Self::Quantity,
        Self::Unit,
        Self::Price,
        Self::Name,
        Self::Currency,
    ];

    /// Its name in profiles and explanations.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Article => "article",
            Self::Quantity => "quantity",
            Self::Unit => "unit",
            Self::Price => "price",
            Self::Name => "name",
            Self::Currency => "currency",
        }
    }

    /// How good a heading this is for the field, 0 being the best; `heading` is [`normal`].
    pub(super) fn rank(self, heading: &str) -> Option<usize> {
        self.words().iter().position(|word| *word == heading)
    }

    /// In the normal form; certain ones first: where a table has both "Article no." and "Item", the earlier entry wins.
    /// "Your number" is ours where the customer writes it.
    #[rustfmt::skip]
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Article => &[
                // What the customer calls the supplier's, so ours.
                "yourarticleno", "youritemno", "yourno", "yourref", "yoursku", "supplierarticleno", "supplieritemno", "supplierpartno", "suppliersku",
                "supplierno", "vendorpartno", "vendoritemno", "vendorsku", "ihreartikelnummer", "ihreartikelnr", "ihreartnr", "ihrenr", "ihrenummer",
                "ihreartikel", "lieferantenartikelnummer", "lieferantenartikelnr", "lieferantenartnr", "liefartnr", "liefartikelnr", "réffournisseur",
                "référencefournisseur", "votreréférence", "votreréf", "refproveedor", "referenciaproveedor", "suref", "codicefornitore", "codfornitore",
                "vostrocodice", "uwartikelnummer", "artikelnummerleverancier", "indeksdostawcy", "kóddodavatele", "erartnr",
                // Numbers.
                "articlenumber", "articleno", "articleid", "articlecode", "artno", "sku", "itemnumber", "itemno", "itemnr", "itemcode", "itemid",
                "productnumber", "productno", "productcode", "productid", "partnumber", "partno", "ordercode", "orderno", "stockcode", "catalogueno", "catalogno", "catno",
                "artikelnummer", "artikelnr", "artikelno", "artnr", "bestellnummer", "bestellnr", "bestnr", "produktnummer", "produktnr", "materialnummer",
                "materialnr", "matnr", "teilenummer", "teilenr", "sachnummer", "sachnr", "referenz",
                "référence", "reference", "réf", "ref", "réfarticle", "référencearticle", "codearticle", "codeproduit", "noarticle", "narticle", "numéroarticle",
                "referencia", "códigoartículo", "codigoarticulo", "códigodeartículo", "códigoproducto", "códigodelproducto", "nartículo", "cód", "cod", "código", "codigo",
                "codicearticolo", "codarticolo", "codart", "codiceprodotto", "codice", "riferimento", "rif",
                "bestelnummer", "productnummer", "artikelcode", "bestelcode", "codeleverancier",
                "indeks", "nrkatalogowy", "numerkatalogowy", "nrartykułu", "numerartykułu", "kodtowaru", "kodproduktu", "kod", "symbol", "nrproduktu",
                "códigodoartigo", "códigoartigo", "refª", "referência", "códigodoproduto",
                "čísloartiklu", "číslozboží", "kódzboží", "kódproduktu", "objednacíčíslo", "katalogovéčíslo", "kód", "čzboží",
                "varunummer", "varunr", "beställningsnummer", "artikelkod",
                "ean", "eancode", "gtin", "barcode",
                // Names that may stand for it.
                "article", "artikel", "code", "art", "product", "produkt", "material", "item", "goods", "ware", "produit", "artículo", "articulo", "producto", "articolo", "prodotto", "artykuł",
                "towar", "artigo", "produto", "zboží", "položka", "vara", "model", "no", "nr",
            ],
            Self::Quantity => &[
                "orderquantity", "orderqty", "qtyordered", "quantityordered", "qtytoorder", "reorderqty", "bestellmenge", "bestelltemenge", "quantitécommandée", "qtécommandée",
                "qtécmd", "cantidadpedida", "quantitàordinata", "bestelaantal", "bestelhoeveelheid", "ilośćzamówiona", "zamawianailość", "quantidadeencomendada", "objednanémnožství",
                "beställtantal", "quantity", "qty", "quant", "orderedqty", "menge", "mng", "anzahl", "anz", "stückzahl", "stueckzahl", "stück", "stueck", "stk", "pieces", "pcs", "noofpieces", "units", "count",
                "quantité", "quantite", "qté", "qte", "nombre", "nbre", "nb", "cantidad", "cant", "cdad", "ctd", "uds", "unidades", "quantità", "quantita", "qtà", "qta", "pezzi", "pz", "nrpezzi", "aantal", "hoeveelheid",
                "aant", "stuks", "ilość", "ilosc", "il", "szt", "sztuk", "liczba", "quantidade", "qtd", "qtde", "quant", "množství", "mnozstvi", "počet", "pocet", "ks", "početks", "kusů", "antal", "ant", "kvantitet", "amountordered",
            ],
            Self::Unit => &[
                "unit", "uom", "unitofmeasure", "orderunit", "einheit", "einh", "me", "mengeneinheit", "bestelleinheit", "be", "unité", "unite", "ut", "u", "unidad", "ud", "um", "unidaddemedida",
                "unità", "unitàdimisura", "eenheid", "ehd", "jednostka", "jm", "jedn", "unidade", "un", "und", "jednotka", "mj", "jed", "enhet", "enh", "packaging", "gebinde", "verpackung", "emballage", "conditionnement", "vpe", "packunit",
            ],
            Self::Price => &[
                "unitprice", "priceperunit", "pricepereach", "priceeach", "unitcost", "netunitprice", "netprice", "einzelpreis", "stückpreis", "stueckpreis", "preisprostück", "preisproeinheit", "preisstück", "preisstk", "preisjestück", "epreis",
                "nettopreis", "nettoeinzelpreis", "ekpreis", "ek", "einkaufspreis", "prixunitaire", "prixunitaireht", "puht", "pu", "prixunitht", "prixht", "preciounitario", "preciounidad", "precioud", "preciounit", "punit", "prezzounitario", "prezzounit", "prezzocad",
                "stukprijs", "prijsperstuk", "eenheidsprijs", "prijsperst", "cenajednostkowa", "cenajedn", "cenanetto", "cenaszt", "preçounitário", "preçounit", "punitário", "jednotkovácena", "cenazakus", "cenaks", "cenazaks", "styckpris", "áprispris", "àpris", "ápris", "apris",
                "price", "listprice", "preis", "ep", "vk", "prix", "precio", "prezzo", "prijs", "cena", "preço", "preco", "pris", "cost",
            ],
            Self::Name => &[
                "description", "desc", "articlename", "articledescription", "productname", "productdescription", "itemname", "itemdescription", "bezeichnung", "artikelbezeichnung", "produktbezeichnung", "artikelname", "benennung",
                "beschreibung", "artikelbeschreibung", "bez", "désignation", "designation", "libellé", "libelle", "descripción", "descripcion", "denominación", "descrizione", "denominazione", "omschrijving", "productomschrijving", "beschrijving",
                "benaming", "opis", "nazwa", "nazwatowaru", "nazwaproduktu", "nazwaartykułu", "descrição", "descricao", "designação", "název", "nazev", "názevzboží", "popis", "benämning", "beskrivning", "produktnamn", "artikelbenämning",
                "name", "nom", "nombre", "nome", "naam", "namn", "text", "kurztext", "artikeltext", "title", "titel",
                // Where a number stands in another column, these are names.
                "article", "artikel", "product", "produkt", "item", "produit", "artículo", "producto", "articolo", "prodotto", "artykuł", "towar", "artigo", "produto", "zboží", "vara", "ware", "material",
            ],
            Self::Currency => &["currency", "curr", "währung", "waehrung", "whrg", "wkz", "devise", "monnaie", "moneda", "divisa", "valuta", "waluta", "moeda", "měna", "mena"],
        }
    }
}

/// The heading that only our own answers have: such a table is an answer quoted back, not an order.
pub(crate) const ANSWER_HEADING: &str = "Result";

/// `Unit price (EUR)` → `unitprice`, `Artikel-\nNr.` → `artikelnr`, `Qty *` → `qty`.
pub(super) fn normal(heading: &str) -> String {
    // What is longer is a sentence; no heading that is known has so many letters.
    if heading.len() > 120 {
        return String::new();
    }
    let heading = heading.to_lowercase();
    let heading = heading.split(['(', '[', '€', '$', '£']).next().unwrap_or_default();
    let words = heading
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    let silent = [
        "in", "eur", "euro", "usd", "chf", "gbp", "pln", "czk", "sek", "the", "n", "nº", "º", "ª", "de", "del", "der",
        "des", "do", "l", "d",
    ];
    let all: Vec<&str> = words.collect();
    let kept: Vec<&str> = all.iter().copied().filter(|word| !silent.contains(word)).collect();
    if kept.is_empty() { all.concat() } else { kept.concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_one_form() {
        for (heading, form) in [
            ("Unit price (EUR)", "unitprice"),
            ("Artikel-\nNr.", "artikelnr"),
            ("Qty *", "qty"),
            ("Preis in €", "preis"),
            ("Prix unitaire HT", "prixunitaireht"),
            ("Code de l'article", "codearticle"),
            ("N°", "n"),
        ] {
            assert_eq!(normal(heading), form, "{heading:?}");
        }
        assert_eq!(normal(&"x".repeat(1_000_000)), "");
    }

    #[test]
    fn every_word_is_in_its_normal_form() {
        for field in Field::ALL {
            for word in field.words() {
                assert_eq!(normal(word), *word);
            }
        }
    }
}
