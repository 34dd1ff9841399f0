//! Are prompts, labels and batches right where the recorded conversations do not look?

use std::path::Path;

use enel_text::Tokenizer;
use enel_text::chat::{self, ChatError, IGNORE, Message, PointBlock, Template};
use proptest::prelude::*;

fn tiny() -> Tokenizer {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer_tiny.model");
    let mut tokenizer = Tokenizer::from_file(&path).expect("the fixture is whole");
    PointBlock::new(3).add_to(&mut tokenizer).expect("marks can be added");
    tokenizer
}

fn chatml() -> Template {
    Template::ChatMl { system: Some("Be brief.".to_owned()) }
}

#[test]
fn chatml_is_written_turn_by_turn() {
    let turns = [Message::human("Hi"), Message::assistant("Hello.")];
    let text = chat::prompt(&chatml(), &turns).unwrap();
    let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
                    <|im_start|>assistant\nHello.<|im_end|>\n";
    assert_eq!(text, expected);
    let prompt = chat::generation(&tiny(), &chatml(), Some(&PointBlock::new(2)), &turns[..1]).unwrap();
    assert!(
        prompt.text.ends_with(
            "user\n<point_start><point_patch><point_patch><point_end>\nHi<|im_end|>\n<|im_start|>assistant\n"
        )
    );
}

#[test]
fn chatml_counts_the_answer_and_its_end_only() {
    let mut tokenizer = tiny();
    for mark in ["<|im_start|>", "<|im_end|>"] {
        tokenizer.add_mark(mark).unwrap();
    }
    let turns = ["one", "two", "three", "four"];
    let turns: Vec<Message> = turns
        .iter()
        .enumerate()
        .map(|(i, text)| if i % 2 == 0 { Message::human(*text) } else { Message::assistant(*text) })
        .collect();
    let example = chat::example(&tokenizer, &chatml(), &PointBlock::new(3), &turns, 2048).unwrap();
    let mut expected = tokenizer.encode("two<|im_end|>", false).unwrap();
    expected.extend(tokenizer.encode("four<|im_end|>", false).unwrap());
    let counted: Vec<u32> = example.labels.iter().filter(|&&l| l != IGNORE).map(|&l| l as u32).collect();
    assert_eq!(counted, expected);
    assert!(example.labels.iter().zip(&example.input_ids).all(|(&l, &id)| l == IGNORE || l == i64::from(id)));
    let cut = chat::example(&tokenizer, &chatml(), &PointBlock::new(3), &turns, 4).unwrap();
    assert_eq!((cut.input_ids.len(), cut.labels.len()), (4, 4));
}

#[test]
fn a_prompt_is_the_beginning_of_what_was_trained_on() {
    let tokenizer = tiny();
    let question = [Message::human("one"), Message::assistant("\n two "), Message::human("three")];
    let mut trained = question.to_vec();
    trained.push(Message::assistant(" four"));
    // The annotation writes the cloud's place out, the prompt puts it there.
    trained[0].value = format!("{}\none", chat::POINT);
    let block = PointBlock::new(3);
    let prompt = chat::generation(&tokenizer, &chatml(), Some(&block), &question).unwrap();
    let example = chat::example(&tokenizer, &chatml(), &block, &trained, 2048).unwrap();
    assert!(example.prompt.starts_with(&prompt.text));
    assert!(example.input_ids.starts_with(&prompt.ids));
    assert_ne!(example.labels[prompt.ids.len()], IGNORE);
    assert_eq!(example.labels[prompt.ids.len() - 1], IGNORE);
}

#[test]
fn turns_must_alternate_and_ask() {
    let two = [Message::human("a"), Message::human("b")];
    assert!(matches!(chat::prompt(&Template::vicuna(), &two), Err(ChatError::Order { index: 1, .. })));
    let answered = [Message::human("a"), Message::assistant("b")];
    assert!(matches!(chat::generation(&tiny(), &chatml(), None, &answered), Err(ChatError::NoQuestion)));
    assert!(matches!(chat::generation(&tiny(), &chatml(), None, &[]), Err(ChatError::NoQuestion)));
}

#[test]
fn a_question_cannot_smuggle_in_a_cloud() {
    let turns = [Message::human("What is <point_patch>?")];
    let error = chat::generation(&tiny(), &Template::vicuna(), Some(&PointBlock::new(2)), &turns).unwrap_err();
    assert!(matches!(error, ChatError::ReservedMark { index: 0, .. }), "{error}");
    // Without a cloud the text is only text.
    assert!(chat::generation(&tiny(), &Template::vicuna(), None, &turns).is_ok());
}

#[test]
fn rows_are_padded_on_the_right() {
    let rows: [(&[u32], &[i64]); 3] = [(&[5, 6, 7], &[-100, 6, 7]), (&[5], &[5]), (&[], &[])];
    let batch = chat::pad_right(rows, 0);
    assert_eq!((batch.n_rows, batch.n_cols), (3, 3));
    assert_eq!(batch.input_ids, [5, 6, 7, 5, 0, 0, 0, 0, 0]);
    assert_eq!(batch.labels, [-100, 6, 7, 5, -100, -100, -100, -100, -100]);
    assert_eq!(batch.attention_mask, [1, 1, 1, 1, 0, 0, 0, 0, 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_conversation_keeps_its_laws(
        texts in proptest::collection::vec("[a-z <>/s\\n:ASITNUER]{0,24}", 0..6),
        max_tokens in 0usize..200,
    ) {
        let tokenizer = tiny();
        let turns: Vec<Message> = texts.iter().enumerate()
            .map(|(i, text)| if i % 2 == 0 { Message::human(text) } else { Message::assistant(text) })
            .collect();
        for template in [Template::vicuna(), chatml()] {
            let example = chat::example(&tokenizer, &template, &PointBlock::new(3), &turns, max_tokens).unwrap();
            prop_assert!(example.input_ids.len() <= max_tokens);
            prop_assert_eq!(example.input_ids.len(), example.labels.len());
            for (&label, &id) in example.labels.iter().zip(&example.input_ids) {
                prop_assert!(label == IGNORE || label == i64::from(id));
            }
        }
    }
}
