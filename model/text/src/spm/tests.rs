use proptest::prelude::*;

use super::*;

/// Marks, all byte pieces, then `words` with falling scores.
fn model(words: &[&str]) -> SpmModel {
    let piece = |text: &str, score, kind| Piece { text: text.to_owned(), score, kind };
    let mut pieces = vec![piece("<unk>", 0.0, PieceKind::Unknown), piece("<s>", 0.0, PieceKind::Control)];
    pieces.push(piece("</s>", 0.0, PieceKind::Control));
    pieces.extend((0..=255u8).map(|b| piece(&format!("<0x{b:02X}>"), 0.0, PieceKind::Byte)));
    pieces.extend(words.iter().enumerate().map(|(rank, word)| piece(word, -(rank as f32), PieceKind::Normal)));
    SpmModel::llama(pieces).unwrap()
}

fn texts(model: &SpmModel, text: &str) -> Vec<String> {
    model.encode(text).into_iter().map(|id| model.pieces()[id as usize].text.clone()).collect()
}

#[test]
fn the_best_score_is_joined_first_and_the_leftmost_of_equals() {
    let model = model(&["bc", "ab", "aa", "a", "b", "c", "▁"]);
    assert_eq!(texts(&model, "abc"), ["▁", "a", "bc"]);
    assert_eq!(texts(&model, "aaa"), ["▁", "aa", "a"]);
}

#[test]
fn what_the_vocabulary_cannot_spell_becomes_bytes() {
    let model = model(&["▁", "a"]);
    assert_eq!(texts(&model, "aé"), ["▁", "a", "<0xC3>", "<0xA9>"]);
    assert!(model.encode("").is_empty());
}

#[test]
fn without_byte_fallback_a_run_is_one_unknown_piece() {
    let pieces = model(&["▁", "a"]).pieces().to_vec();
    let settings = Settings { byte_fallback: false, add_dummy_prefix: false, remove_extra_whitespaces: true };
    let model = SpmModel::from_pieces(pieces, settings).unwrap();
    assert_eq!(texts(&model, "  aéé  a "), ["a", "<unk>", "▁", "a"]);
}

#[test]
fn user_defined_pieces_are_never_cut() {
    let mut pieces = model(&["▁", "a", "b", "ab"]).pieces().to_vec();
    pieces.push(Piece { text: "ba".to_owned(), score: 0.0, kind: PieceKind::UserDefined });
    let model = SpmModel::llama(pieces).unwrap();
    assert_eq!(texts(&model, "abab"), ["▁", "a", "ba", "b"]);
}

#[test]
fn pieces_are_short_enough_to_be_looked_up_everywhere() {
    for kind in [PieceKind::Normal, PieceKind::UserDefined, PieceKind::Control] {
        let with = |n: usize| {
            let mut pieces = model(&["a"]).pieces().to_vec();
            pieces.push(Piece { text: "x".repeat(n), score: 0.0, kind });
            SpmModel::llama(pieces).map(|model| model.pieces().len())
        };
        assert_eq!(with(MAX_MARK_BYTES).unwrap(), 261);
        assert!(matches!(with(MAX_MARK_BYTES + 1), Err(SpmError::Piece { id: 260, .. })));
    }
}

#[test]
fn written_models_read_back_alike() {
    let model = model(&["▁", "a", "▁a"]);
    let again = SpmModel::parse(&model.to_bytes()).unwrap();
    assert_eq!(again.pieces(), model.pieces());
    assert_eq!(again.settings, model.settings);
    assert_eq!(again.to_bytes(), model.to_bytes());
}

#[test]
fn tables_that_break_a_rule_are_refused() {
    let base = model(&["a"]).pieces().to_vec();
    let refuse = |change: &dyn Fn(&mut Vec<Piece>)| {
        let mut pieces = base.clone();
        change(&mut pieces);
        SpmModel::llama(pieces).unwrap_err()
    };
    assert_eq!(refuse(&|p| p.clear()), SpmError::Empty);
    assert_eq!(refuse(&|p| p[0].kind = PieceKind::Control), SpmError::NoUnknown);
    assert_eq!(refuse(&|p| drop(p.remove(3 + 7))), SpmError::MissingByte { byte: 7 });
    assert!(matches!(refuse(&|p| p.push(p[259].clone())), SpmError::Piece { id: 260, .. }));
    assert!(matches!(refuse(&|p| p[5].text = "<0x+A>".to_owned()), SpmError::Piece { id: 5, .. }));
}

#[test]
fn unigram_models_and_character_maps_are_refused_by_name() {
    let mut file = Writer::default();
    file.field(2, &[3 << 3, 1]);
    assert_eq!(
        SpmModel::parse(&file.finish()).unwrap_err(),
        SpmError::Unsupported { feature: "the unigram algorithm" }
    );
    let mut bytes = model(&["a"]).to_bytes();
    // A second normaliser message adds to the first: field 2, one byte.
    bytes.extend_from_slice(&[3 << 3 | 2, 3, 2 << 3 | 2, 1, b'x']);
    assert!(matches!(SpmModel::parse(&bytes).unwrap_err(), SpmError::Unsupported { .. }));
}

#[test]
fn a_length_beyond_the_file_is_refused() {
    let bytes = [1 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(matches!(SpmModel::parse(&bytes), Err(SpmError::Malformed { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = SpmModel::parse(&bytes);
    }

    #[test]
    fn altered_and_cut_models_never_panic(at in 0usize..4000, bit in 0u8..8, cut in 0usize..4000, text in "[ab ]{0,9}") {
        let mut bytes = model(&["▁", "a", "b", "ab", "▁a"]).to_bytes();
        let len = bytes.len();
        bytes[at % len] ^= 1 << bit;
        if let Ok(model) = SpmModel::parse(&bytes) {
            model.encode(&text);
        }
        let _ = SpmModel::parse(&bytes[..cut % len]);
    }

    #[test]
    fn pieces_spell_the_text(text in "[ab c▁é]{0,30}") {
        let model = model(&["ab", "▁a", "▁▁", "▁", "a", "b"]);
        let mut bytes = Vec::new();
        for id in model.encode(&text) {
            let piece = &model.pieces()[id as usize].text;
            match parse_byte(piece) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(piece.as_bytes()),
            }
        }
        let spelled = String::from_utf8(bytes).unwrap().replace(SPACE, " ");
        let expected = if text.is_empty() { String::new() } else { format!(" {}", text.replace(SPACE, " ")) };
        prop_assert_eq!(spelled, expected);
    }
}
