"""What both dialects share: keys that may be ignored, keys that must have one value, and a limit."""

from collections.abc import Collection

from mlx_llava.checkpoint.strict_json import Section

MAX_LAYERS = 512  # LLaMA 405B has 126
# Keys that cannot change a forward pass: training, bookkeeping, and generation defaults in old files.
HARMLESS = frozenset(
    """
    is_composition type_vocab_size
    dtype torch_dtype _name_or_path _commit_hash _attn_implementation _attn_implementation_autoset
    architectures transformers_version torchscript use_cache initializer_range initializer_factor pretraining_tp
    bos_token_id pad_token_id sep_token_id cls_token_id unk_token_id mask_token_id decoder_start_token_id
    ignore_index image_seq_length projection_dim return_dict output_attentions output_hidden_states
    use_bfloat16 tf_legacy_loss chunk_size_feed_forward diversity_penalty do_sample early_stopping
    finetuning_task id2label label2id is_decoder length_penalty max_length min_length num_beam_groups num_beams
    num_return_sequences output_scores prefix problem_type remove_invalid_values repetition_penalty
    return_dict_in_generate task_specific_params temperature tie_encoder_decoder tokenizer_class top_k top_p
    typical_p dropout attention_dropout gradient_checkpointing
    """.split()
)
# Keys that change nothing at these values, which old files spell out.
NEUTRAL: dict[str, object] = {
    "pruned_heads": {},
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "partial_rotary_factor": 1.0,
}
# Code that a checkpoint asks to run. It is never opened.
CODE_KEYS = ("auto_map", "model_file", "custom_pipelines", "trust_remote_code")


def finish(keys: Section, harmless: Collection[str] = ()) -> None:
    """Refuse keys that were not read, unless they are harmless or at a value that changes nothing."""
    for key, value in NEUTRAL.items():
        keys.only(key, value)
    keys.finish(HARMLESS.union(harmless))
