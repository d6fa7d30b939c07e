"""What runs call the methods and the metrics that experiments are about."""

MAIN = "ragar"
TEXT_ONLY = "sd"  # the image of the reference's text alone
KEYWORD_ONLY = "keywords"  # the image of the reference's text and the whole history's keywords
RETRIEVED = "retrieved"  # the image of the reference's text and the retrieved items' keywords as a plain prompt
IMAGE_PROMPT = "ip_adapter"  # look tokens of the last five pictures with the reference's text
GLOBAL = "global"  # the image of the global preference E^g
INVERSION = "ti"
INVERSION_RETRIEVED = "ti_retrieved"  # the same given the retrieved items alone
PMG = "pmg"
PMG_RETRIEVED = "pmg_retrieved"
GLIDE = "glide"
LAVIT = "lavit"
TRUTH = "truth"
RECONSTRUCTION = "reconstruction"  # the truth through the autoencoder
ORACLE = "oracle"  # look tokens of pictures by the truth's own artist
ORIGINAL = "original"

STYLE = "style_accuracy"
CONCEPT = "concept_accuracy"
CONCEPT_TOP5 = "concept_top5"
DISTANCE = "distance_truth"  # this and the next two stand for columns of the perceptual model at hand, e.g. effnet_truth
DISTANCE_PERSONAL, DISTANCE_SEMANTIC = "distance_pers", "distance_sem"
DELTA_R = "delta_r"
DELTA_R_CHECK = "delta_r_check"  # of the second ranker, which no reward has seen
RECALL, NDCG = "hit_at_10", "ndcg_at_10"
SAMPLED_RECALL, SAMPLED_NDCG = f"{RECALL}_sampled", f"{NDCG}_sampled"  # among 99 items
JUDGED = (STYLE, DISTANCE, "cpis", DELTA_R, DELTA_R_CHECK)  # on which RAGAR is compared with the images that it must beat

TITLES = {  # of methods, in the sentences of claims
    TEXT_ONLY: "the image of the text alone",
    KEYWORD_ONLY: "the keyword-only image",
    RETRIEVED: "a plain prompt of the retrieved items' keywords",
    GLOBAL: "the global-preference image",
    IMAGE_PROMPT: "look tokens of the last five pictures",
    INVERSION: "TI",
    PMG: "PMG",
    PMG_RETRIEVED: "PMG given the retrieved items",
}
