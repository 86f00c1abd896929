"""What the grammar of questions knows: patterns of asking, in order, and words that ask nothing.

Patterns are tried from the first to the last on the words of a question, in lower case and without contractions. The
list of words is closed: a word that stands in no list makes the question one that is not understood.
"""

from __future__ import annotations

import re

from isocenter.verbs.asking.general_words import GENERAL_WORDS

__all__ = ["EVERY_WORD", "INTENTS", "QUANTITY_WORDS"]

_LOOK = (
    r"(?:examin\w*|look\w*|assess\w*|tell|say|see|check\w*|answer\w*|evaluat\w*|cover\w*|judge\w*|know|analys\w*|read)"
)
_IMAGE = r"(?:image|picture|study|scan|film|examination|exam|radiograph|series|investigation)s?"
_STUDY_KINDS = r"(?:ct|mr|mri|pet|ultrasound|sonogram|radiograph|mammogram|photograph)"
_FINDINGS = r"(?:findings?|abnormalit\w+|problems?|diagnos[ie]s|diseases?|results?|lesions)"


def _rule(tool: str, pattern: str, named: bool | None = None) -> tuple[str, re.Pattern[str], bool | None]:
    return tool, re.compile(pattern), named


INTENTS: tuple[tuple[str, re.Pattern[str], bool | None], ...] = (
    # What was left out.
    _rule("not_examined", rf"\b(?:not|never) (?:\w+ ){{0,2}}{_LOOK}\b", named=False),
    _rule("not_examined",
        r"\b(?:limits?|limitations?|abstain\w*|abstention\w*|unanswered|unexamined|missing|left out|leave "
        r"out|blind spots?)\b"),
    _rule("not_examined", r"\bnothing (?:was )?answered\b|\b(?:can|could) (?:you )?not\b", named=False),
    # What this is.
    _rule("describe_study", rf"\b(?:what|which) (?:kind|type|sort)s? of {_IMAGE}\b"),
    _rule("describe_study", rf"\bwhat (?:is|are) (?:this|that|these|the) {_IMAGE}\b|\bwhat is this$", named=False),
    _rule("describe_study", r"\bmodalit(?:y|ies)\b|\bwhat am i (?:looking at|seeing)\b", named=False),
    _rule("describe_study", rf"\b(?:what|which|how many) {_IMAGE}\b|\bdescribe the {_IMAGE}\b", named=False),
    _rule("describe_study",
        rf"\b(?:is|are) (?:this|it|that|these|they) (?:a |an |really )*{_STUDY_KINDS}\b", named=False),
    _rule("describe_study", rf"^{_STUDY_KINDS} or (?:a |an )?{_STUDY_KINDS}$", named=False),
    # What changed.
    _rule("compare", r"\b(?:since|prior|previous|previously|earlier|before|over time|follow up)\b"),
    _rule("compare", rf"\blast (?:time|year|month|week|one|visit|{_IMAGE})\b"),
    _rule("compare",
        r"\b(?:chang\w+|worse|worsen\w*|better|improv\w+|progress\w*|grow\w*|grew|shr[iu]nk\w*|evolv\w+"
        r"|healed)\b"),
    _rule("compare", r"\b(?:new|newly|stable|resolv\w+|unchanged|increas\w+|decreas\w+|lost)\b"),
    _rule("compare", r"\bcompar\w+\b", named=False),
    _rule("compare", r"\b(?:get|gets|getting|got|gotten|become|became) (?:larger|bigger|smaller)\b|\bnews\b"),
    # Why.
    _rule("why", r"\bwhy\b|\bhow (?:do|did|can|would) you (?:know|tell|see|find|come|get)\b|\bhow come\b"),
    _rule("why",
        r"\b(?:basis|basi|rests?|based|because|explain\w*|proof|speaks for|points to|justif\w+|reasons?"
        r"|reasoning|supports?)\b"),
    _rule("why",
        r"\bwhat (?:is|are) (?:\w+ )?evidence\b|\bevidence (?:for|behind|that)\b|\bshow (?:me )?(?:the|your) "
        r"evidence\b"),
    _rule("why",
        r"\bwhich (?:model|task|algorithm|software|weights)\b|\b(?:makes?|made|led|leads?) you (?:think|say"
        r"|believe|to)\b|\bcomes? from\b"),
    # How sure.
    _rule("list_findings",
        rf"\b(?:what|which) {_FINDINGS} (?:is|are|were) (?:\w+ )?(?:uncertain|possible|doubtful|unsure)\b"),
    _rule("confidence",
        r"\b(?:sure|certain|suspicion|how strong|certainty|confident|confidence|probabilit\w+|probable"
        r"|likely|likelihood)\b"),
    _rule("confidence", r"\b(?:chances?|accura\w+|reliab\w+|trust\w*|precis\w+|uncertain\w*|error|margin|interval)\b"),
    # Which.
    _rule("list_findings",
        rf"\b(?:what|which|list|all|any|overview|summar\w+|other|many) (?:\w+ ){{0,3}}{_FINDINGS}\b", named=False),
    _rule("list_findings",
        r"\b(?:what|anything|something) (?:do|did|can|could|else|have|was|is|has)?\b.*\b(?:find|found|see|seen"
        r"|detect\w*)\b", named=False),
    _rule("list_findings",
        r"\b(?:anything|something|what is|everything) (?:\w+ )?(?:wrong|abnormal|normal|pathological|unusual"
        r"|ok)\b", named=False),
    _rule("list_findings",
        r"\bwhat (?:was|is|has been|are) (?:\w+ )?(?:ruled out|excluded|absent|present|there|possible"
        r"|possibly)\b", named=False),
    _rule("list_findings", r"\b(?:summar\w+|overview|findings?|abnormalit\w+)\b", named=False),
    _rule("list_findings",
        r"\b(?:verdict|conclusion|sum up|(?:run|walk|talk) me through)\b|\bis (?:all|everything) (?:fine"
        r"|well|alright|good)\b", named=False),
    _rule("list_findings", r"\bwhat (?:remains|is|stays) (?:unclear|uncertain|open)\b", named=False),
    _rule("list_findings", r"\b(?:see|find|found|detect|there) (?:any|some)thing\b", named=False),
    # On which side.
    _rule("side_of", r"\b(?:is|are) (?:it|they|this|that) (?:on |in )?(?:the )?(?:left|right)\b", named=False),
    _rule("list_findings", rf"\bwhat (?:is|are) (?:\w+ )?(?:on|in) (?:this|the|that|these) {_IMAGE}\b", named=False),
    _rule("measure", r"\bwhich side .*(?:bigger|larger|smaller|biggest|largest|smallest)\b"),
    _rule("side_of",
        r"\b(?:which|what) side\b|\blaterality\b|^(?:is|are) .* bilateral\b|\bleft(?: sided)? or (?:\w+ "
        r"){0,3}right\b|\bright(?: "
        r"sided)? or (?:\w+ ){0,3}left\b"),
    _rule("side_of", r"\bleft side or\b|\bright side or\b"),
    # Where.
    _rule("locate",
        r"\b(?:where|whereabouts|locat\w+|position|positioned|locali[sz]e|pinpoint|situated|point (?:me "
        r")?(?:to|at|out))\b"),
    _rule("locate", r"\b(?:which|what) (?:part|region|organ|area|place|lobe)\b|\bshow (?:me )?(?:the|where)\b"),
    # How large.
    _rule("measure",
        r"\bhow (?:big|large|long|wide|tall|small|voluminous|thick|broad|high)\b|\bhow much (?:volume|area"
        r"|space)\b"),
    _rule("measure", r"\bhow many (?:ml|millilit\w+|cc|cm2?|mm2?|centimet\w+|millimet\w+|square|cubic)\b"),
    _rule("measure",
        r"\b(?:size|sizes|volumes?|areas?|diameters?|ax[ei]s|measure|measured|measures|measurements?"
        r"|dimensions?|extent|burden|volumetry)\b"),
    _rule("measure",
        r"\b(?:length|width|bigger|larger|smaller|biggest|largest|smallest|asymmetr\w+|symmetr\w+|same)\b"),
    _rule("measure", r"\bcompar\w+\b", named=True),
    # Whether.
    _rule("find",
        r"\b(?:is|are|was|were|any|do|does|did|can|could|has|have|sign|signs|see|present|visible|found|find"
        r"|evidence)\b"),
)  # fmt: skip
"""Tool, pattern, and whether a finding or part of the body must be named (True), must not (False), or either (None)."""

QUANTITY_WORDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("volume", re.compile(r"\b(?:volumes?|voluminous|ml|millilit\w+|cc|cm3|cubic|litres?|liters?)\b")),
    ("area", re.compile(r"\b(?:areas?|square|cm2|mm2)\b")),
    ("diameter", re.compile(r"\b(?:diameters?|ax[ei]s|longest|shortest|length|width)\b")),
)
"""Kinds of size, by the words that ask for one."""

_FILLERS = (
    "suspicious clear sided anterior posterior upper lower a an the this that these those it its he she they them "
    "his her their him of in on at to from with within for by as and or but if than then so is are was were be "
    "been being am do does did done has have had can could may might would will shall should i me my we us our "
    "you your there here what which who when where why how much many any some all every each no not nothing "
    "anything something everything one two other another same else more most less very too also just only please "
    "kindly hello hi thanks thank ok okay tell give show list name say let know like want need see look find "
    "found get got help ask question doctor radiologist patient person man woman image images picture study scan "
    "film examination exam radiograph series investigation view report reading case ct mr mri pet ultrasound "
    "sonogram mammogram photograph modality modalities kind type sort side sides left right both bilateral body "
    "part region organ place lobe exactly roughly about approximately really actually currently now today again "
    "still yet already ever visible seen detected detect identified identify noted present absent possible "
    "possibly sign signs evidence suggestion finding findings abnormality abnormalities abnormal normal wrong "
    "problem problems diagnosis disease diseases result results summary summarise summarize overview describe out "
    "ruled excluded positive negative uncertain doubtful questionable equivocal perhaps unsure pathological "
    "unusual size sizes sized large larger largest big bigger biggest small smaller smallest long longest longer "
    "wide widest width tall thick broad high length volume volumes voluminous area areas diameter diameters axis "
    "axes measure measured measures measurement measurements measuring dimension dimensions ml millilitre "
    "millilitres milliliter milliliters cc cm cm2 cm3 mm mm2 mm3 centimetre centimetres centimeter centimeters "
    "millimetre millimetres square cubic litre liter space cover covers asymmetry asymmetric symmetry symmetric "
    "symmetrical between compare compared comparison comparing difference different differ located location "
    "locate lie lies position positioned situated whereabouts point laterality changed change changes changing "
    "worse worsened worsening better improved improving improvement progress progressed progression grow grown "
    "growing grew growth shrink shrunk shrank shrinking evolved evolve healed new newly stable resolved unchanged "
    "increase increased increasing decrease decreased decreasing lost since prior previous previously earlier "
    "before time last over follow up visit because basis rest rests based explain explanation proof justify "
    "justified reason reasons reasoning support supports supported model task tasks algorithm software make makes "
    "think believe believed come comes came call called calls sure certain certainty confident confidence "
    "probability probabilities probable likely likelihood chance chances accurate accuracy reliable reliability "
    "trust precise precision uncertainty error margin interval examined examine looked looking assess assessed "
    "check checked answer answered evaluate evaluated covered judge judged analysed analyse limit limits "
    "limitation limitations abstain abstained abstention unanswered unexamined missing unable seeing contain "
    "contains into under enlarged enlargement dilated lesions available during made technique kinds types good "
    "true exist exists suspect suspected suspicion concerning regarding concern shows showing together happened "
    "happen become became further anywhere whether yes wonder wondering noticed notice notices real stand stands "
    "behind weights calling take takes taken year years month months week weeks day days ago verdict alright fine "
    "bad well unclear remains remain remaining blind leave leaves leaving news vs versus therefore thus maybe "
    "either neither somehow someone sometime basically simply merely quickly briefly short shortly brief detail "
    "details detailed exact precisely number numbers value values figure figures amount amounts total totals "
    "overall whole entire per unit units rough estimate estimates estimated outline outlined outlines outlining "
    "segmentation segmented contour coordinates coordinate centre center middle points pointing lead leads led "
    "concluded conclusion decide decided decision determine determined consider considered regard regarded assume "
    "assumed claim claimed claims state stated states statement mention mentioned mentions reported reports note "
    "notes record recorded wants wanted wish wished hope curious interested interesting understand understood "
    "clarify elaborate specify specific specifically must able necessary required gets getting gotten becomes "
    "went go goes going gone keep keeps kept hold holds held appear appears appeared seem seems seemed looks "
    "shown displays display displayed reveal reveals revealed demonstrate demonstrates demonstrated suggest "
    "suggests suggested depict depicts depicted first second third next former latter own similar similarly "
    "identical equal equally alike unlike least few fewer several couple pair half twice once use used uses using "
    "without across along against among around near beside besides attempt try tried tries work worked works "
    "working people anybody anyone everybody everyone ones three four five thing things stuff parts piece pieces "
    "places pictures photo photos shot shots slice slices layer layers views questions answers reply replies says "
    "said tells told speak speaks spoke asks asked asking thinks thought believes guess guesses guessed suppose "
    "supposed expect expects expected huge tiny little enormous considerable noticeable nor even never often "
    "usually sometimes rarely anew whose whom whichever whatever wherever whenever however spotted "
)
EVERY_WORD = frozenset(_FILLERS.split()) | {"localise", "localize"} | GENERAL_WORDS
"""Words that may stand in a question beside names."""
