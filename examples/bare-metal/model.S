/* The model in flash, as the file is. */
    .section .model, "a"
    .global model_start, model_end
    .balign 64
model_start:
    .incbin MODEL
model_end:
